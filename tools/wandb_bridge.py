#!/usr/bin/env python3
"""Shows a run of Titan in Weights & Biases: replays its metrics.jsonl into W&B's own client.

    pip install wandb
    python3 tools/wandb_bridge.py outputs/llama3/debug/2026-01-01T00-00-00Z --mode online --project pretraining
    python3 tools/wandb_bridge.py RUN_DIRECTORY --follow      # beside a run that is still going

With --mode offline (the default) nothing leaves the machine: W&B's files are written below --dir, and `wandb sync` uploads
them from wherever its server can be reached. Metrics have the names that torchtitan gives them, which are those of the
TensorBoard events; the configuration is the resolved experiment. The run's id in W&B is made of the digest and of when the
run began, so that a replay of the same directory goes into the same W&B run.

Needs Python 3.8 and the package `wandb`, and nothing else of Titan than the run directory.
"""

import argparse
import hashlib
import json
import os
import sys
import time

GIB = 1024**3


def _per_step(line, optimizer):
    """What W&B is told of one step."""
    values = {
        "loss_metrics/global_avg_loss": line.get("loss"),
        "grad_norm": line.get("grad_norm"),
        "lr/" + optimizer: line.get("lr"),
        "n_tokens_seen": line.get("tokens_seen"),
        "throughput(tps)": line.get("tokens_per_second"),
        "tflops": line.get("tflops"),
        "time_metrics/end_to_end(s)": line.get("step_seconds"),
        "time_metrics/data_loading(s)": line.get("data_seconds"),
    }
    if line.get("step_seconds"):
        values["time_metrics/data_loading(%)"] = 100 * (line.get("data_seconds") or 0) / line["step_seconds"]
    if line.get("mfu"):  # 0: the peak of the device is not known
        values["mfu(%)"] = 100 * line["mfu"]
    if line.get("memory_bytes") is not None:
        values["memory/max_reserved(GiB)"] = line["memory_bytes"] / GIB
    if line.get("checkpoint_seconds") is not None:
        values["time_metrics/checkpoint(s)"] = line["checkpoint_seconds"]
    if line.get("failed_saves") is not None:
        values["failed_saves"] = line["failed_saves"]
    for axis, sent in line.get("bytes_sent", {}).items():
        values["bytes_sent/" + axis] = sent
    return values


def _per_validation(line):
    values = {
        "validation_metrics/loss": line["validation_loss"],
        "validation_metrics/throughput(tps)": line.get("validation_tokens_per_second"),
    }
    if line.get("memory_bytes") is not None:
        values["validation_metrics/memory/max_reserved(GiB)"] = line["memory_bytes"] / GIB
    return values


def values_of(line, optimizer="AdamW"):
    """The metrics of one line of metrics.jsonl by their names in W&B. Those that are not finite (null) are left out."""
    values = _per_validation(line) if "validation_loss" in line else _per_step(line, optimizer)
    return {name: value for name, value in values.items() if value is not None}


class Lines:
    """The complete lines of a file that may still grow."""

    def __init__(self, path):
        self._path = path
        self._read = 0  # bytes
        self._number = 0

    def new(self):
        """What was added since the last call, as objects. A file that became shorter is an error."""
        with open(self._path, "rb") as file:
            if os.fstat(file.fileno()).st_size < self._read:
                raise SystemExit(
                    "%s became shorter: the run began again from a checkpoint. Start the bridge again." % self._path)
            file.seek(self._read)
            added = file.read()
        added = added[:added.rfind(b"\n") + 1]
        self._read += len(added)
        for line in added.splitlines():
            self._number += 1
            try:
                yield json.loads(line)
            except ValueError as error:
                raise SystemExit("%s:%d: %s" % (self._path, self._number, error))


def read_record(directory):
    path = os.path.join(directory, "run.json")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise SystemExit("%s is not there: is %s the directory of a run (--out)?" % (path, directory))


def run_id(record):
    """The same for every replay of one run directory. Its first session says when the run began."""
    sessions = record.get("previous_sessions") or []
    first = sessions[0] if sessions else record
    text = "%s %s" % (first.get("digest"), first.get("start_time"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def has_ended(record):
    return record.get("end_time") is not None


def replay(arguments, wandb):
    record = read_record(arguments.directory)
    run = wandb.init(
        project=arguments.project,
        entity=arguments.entity,
        name=arguments.name or record.get("name"),
        id=run_id(record),
        resume="allow",
        mode=arguments.mode,
        dir=arguments.dir or arguments.directory,
        config={
            "experiment": record.get("experiment"),
            "digest": record.get("digest"),
            "overrides": record.get("overrides"),
            "host": record.get("host"),
            "facts": record.get("facts"),
            "versions": record.get("versions"),
        },
    )
    optimizer = ((record.get("experiment") or {}).get("optimizer") or {}).get("name") or "AdamW"
    lines = Lines(os.path.join(arguments.directory, "metrics.jsonl"))
    logged = 0
    exit_code = 0
    while True:
        # Asked before the file is read: what is written until the end is then not missed.
        record = read_record(arguments.directory)
        ended = has_ended(record)
        for line in lines.new():
            run.log(values_of(line, optimizer), step=line["step"])
            logged += 1
        if ended or not arguments.follow:
            exit_code = record.get("exit_code") or 0
            break
        time.sleep(arguments.interval)
    run.summary["ending"] = record.get("ending")
    run.summary["last_step"] = record.get("last_step")
    run.finish(exit_code=exit_code)
    return logged


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="of the run: what --out named")
    parser.add_argument("--mode", choices=["offline", "online"], default="offline")
    parser.add_argument("--project", default="titan")
    parser.add_argument("--entity", help="the team; your own unless given")
    parser.add_argument("--name", help="of the run; the experiment's unless given")
    parser.add_argument("--dir", help="where W&B keeps its files; the run directory unless given")
    parser.add_argument("--follow", action="store_true", help="go on until the run has ended")
    parser.add_argument("--interval", type=float, default=10, help="seconds between two looks with --follow")
    return parser.parse_args(arguments)


def main():
    arguments = parse(sys.argv[1:])
    try:
        import wandb  # pylint: disable=import-outside-toplevel
    except ImportError:
        raise SystemExit("the Python package wandb is not installed: pip install wandb")
    print("%d lines replayed" % replay(arguments, wandb))


if __name__ == "__main__":
    main()
