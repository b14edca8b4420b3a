"""Trains parameters of given sizes in PyTorch and saves them with torch.distributed.checkpoint.async_save.

usage: checkpoint_peer.py --index INDEX --out DIR --mode none|async|async_with_pinned_mem --steps N --interval N
                          [--device cpu|cuda] [--tokens N]

INDEX is the index.json of a checkpoint of ours: what is saved has its tensors' shapes, parameters and AdamW's two
averages in float32. A step multiplies every matrix as a linear layer would, forward and backward, with so many tokens,
and updates with fused AdamW. DIR/metrics.jsonl has the keys of our runs that checkpoint_cost.h reads:
`checkpoint_seconds` is what a save has held up (staging, waiting for the save before, and for what must be over before
the update), `write_seconds` the time from the end of the call until all is written. The modes are those of torchtitan: `async` stages into
pageable memory and writes in a thread, `async_with_pinned_mem` stages into pinned shared memory beside the next step
and writes in another process; it needs CUDA.
"""

import argparse
import json
import os
import shutil
import tempfile
import time

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

KEYS = ("step", "loss", "grad_norm", "lr", "tokens", "tokens_seen", "step_seconds", "data_seconds")
KEYS += ("tokens_per_second", "tflops", "mfu", "memory_bytes")
INTEGERS = ("step", "tokens", "tokens_seen", "memory_bytes")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--mode", choices=("none", "async", "async_with_pinned_mem"), required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--interval", type=int, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=512, help="of a step (512)")
    arguments = parser.parse_args()
    if arguments.mode == "async_with_pinned_mem" and arguments.device != "cuda":
        parser.error("async_with_pinned_mem needs CUDA")
    return arguments


def read_parameters(index, device):
    with open(index) as file:
        tensors = json.load(file)["tensors"]
    prefix = "model."
    return {
        name[len(prefix) :]: torch.nn.Parameter(torch.randn(entry["shape"], device=device) * 0.02)
        for name, entry in tensors.items()
        if name.startswith(prefix)
    }


class Work:
    """Forward and backward of every parameter, one after the other."""

    def __init__(self, parameters, tokens, device):
        self.parameters = parameters
        self.dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.ids = torch.randint(0, 1000, (tokens,), device=device)
        self.inputs = {}
        for parameter in parameters.values():
            if parameter.dim() == 2 and parameter.shape[1] not in self.inputs:
                values = torch.randn(tokens, parameter.shape[1], device=device, dtype=self.dtype)
                self.inputs[parameter.shape[1]] = values.requires_grad_()

    def run(self):
        for name, parameter in self.parameters.items():
            if "tok_embeddings" in name:
                output = torch.nn.functional.embedding(self.ids, parameter)
            elif parameter.dim() == 2:
                output = torch.nn.functional.linear(self.inputs[parameter.shape[1]], parameter.to(self.dtype))
            else:
                output = parameter
            output.backward(torch.ones_like(output))
        for values in self.inputs.values():
            values.grad = None


class Saver:
    """async_save as torchtitan calls it."""

    def __init__(self, mode, folder):
        self.mode = mode
        self.folder = folder
        self.stager = None
        self.staging = None
        self.upload = None
        self.started = 0.0
        self.ended = None  # when the save that is being written was complete
        self.steps = []
        self.write_seconds = 0.0
        if mode == "async_with_pinned_mem":
            self.stager = DefaultStager(StagingOptions(True, True, True, True))

    def save(self, step, state):
        self.wait()
        self.ended = None
        path = os.path.join(self.folder, f"step-{step}")
        if self.stager is not None:
            response = dcp.async_save(
                state,
                checkpoint_id=path,
                async_checkpointer_type=AsyncCheckpointerType.PROCESS,
                async_stager=self.stager,
            )
            if hasattr(response, "upload_completion"):
                self.staging, self.upload = response.staging_completion, response.upload_completion
            else:
                self.upload = response
        else:
            self.upload = dcp.async_save(state, checkpoint_id=path)
        self.started = time.perf_counter()
        self.upload.add_done_callback(self.note_end)
        self.steps.append(path)
        for old in self.steps[:-2]:
            shutil.rmtree(old, ignore_errors=True)

    def note_end(self, _):
        self.ended = time.perf_counter()

    def before_update(self):
        """Seconds that the update has to wait for the copy of what it changes."""
        if self.staging is None:
            return 0.0
        before = time.perf_counter()
        self.staging.result()
        self.staging = None
        return time.perf_counter() - before

    def poll(self):
        if self.upload is not None and self.upload.done() and self.ended is not None:
            self.upload.result()
            self.write_seconds += self.ended - self.started
            self.upload = None

    def wait(self):
        if self.upload is not None:
            self.before_update()
            self.upload.result()
            while self.ended is None:
                time.sleep(0.001)
            self.poll()

    def take_write_seconds(self):
        seconds, self.write_seconds = self.write_seconds, 0.0
        return seconds

    def close(self):
        self.wait()
        if self.stager is not None:
            self.stager.close()


def train(arguments, saver, log):
    device = arguments.device
    tokens = arguments.tokens
    parameters = read_parameters(arguments.index, device)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    work = Work(parameters, tokens, device)
    wait_for_device = torch.cuda.synchronize if device == "cuda" else lambda: None
    stall = 0.0
    end = time.perf_counter()
    for step in range(1, arguments.steps + 1):
        work.run()
        wait_for_device()
        stall += saver.before_update()
        optimizer.step()
        optimizer.zero_grad()
        wait_for_device()
        now = time.perf_counter()
        line = dict.fromkeys(KEYS, 0.0)
        line.update(step=step, tokens=tokens, tokens_seen=step * tokens, step_seconds=now - end)
        line["tokens_per_second"] = tokens / (now - end)
        line.update({key: int(line[key]) for key in INTEGERS})
        if stall > 0 and saver.mode != "none":
            line["checkpoint_seconds"] = stall
        write_seconds = saver.take_write_seconds()
        if write_seconds > 0:
            line["write_seconds"] = write_seconds
        log.write(json.dumps(line) + "\n")
        log.flush()
        end, stall = now, 0.0
        saver.poll()
        if saver.mode != "none" and step % arguments.interval == 0 and step < arguments.steps:
            model = {name: parameter.detach() for name, parameter in parameters.items()}
            state = {"model": model, "exp_avg": {}, "exp_avg_sq": {}}
            for name, parameter in parameters.items():
                for key in ("exp_avg", "exp_avg_sq"):
                    state[key][name] = optimizer.state[parameter][key]
            saver.save(step, state)
            stall = time.perf_counter() - now


def main():
    arguments = parse()
    os.makedirs(arguments.out, exist_ok=True)
    folder = os.path.join(arguments.out, "checkpoint")
    with tempfile.TemporaryDirectory() as rendezvous:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29511")
        os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
        dist.init_process_group("cpu:gloo", init_method=f"file://{rendezvous}/store", rank=0, world_size=1)
        saver = Saver(arguments.mode, folder)
        with open(os.path.join(arguments.out, "metrics.jsonl"), "w") as log:
            train(arguments, saver, log)
        saver.close()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
