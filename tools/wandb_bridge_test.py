"""The bridge to W&B against a stand-in for its client, which remembers how it was called."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wandb_bridge  # pylint: disable=wrong-import-position

STEPS = [
    '{"step": 1, "loss": 7.5, "grad_norm": 2.0, "lr": 0.001, "tokens": 64, "tokens_seen": 64, "step_seconds": 0.5, '
    '"data_seconds": 0.01, "tokens_per_second": 128.0, "tflops": 0.25, "mfu": 0.5, "memory_bytes": 1073741824, '
    '"bytes_sent": {"fsdp": 100, "world": 24}}',
    '{"step": 1, "validation_loss": 7.25, "validation_tokens": 10, "validation_seconds": 1.0, '
    '"validation_tokens_per_second": 10.0, "memory_bytes": 2147483648}',
    '{"step": 2, "loss": null, "grad_norm": 1.0, "lr": 0.001, "tokens": 64, "tokens_seen": 128, "step_seconds": 0.5, '
    '"data_seconds": 0.0, "tokens_per_second": 128.0, "tflops": 0.25, "mfu": 0.0, "memory_bytes": 0, '
    '"checkpoint_seconds": 0.125, "failed_saves": 1}',
]

RECORD = {
    "name": "llama3/debug", "digest": "abc", "start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-02T00:01:00Z",
    "exit_code": 4, "ending": "non-finite loss", "last_step": 2, "overrides": ["training.steps=2"], "host": "here",
    "facts": {"device": "cpu"}, "versions": {"torch": "2.11"}, "experiment": {"optimizer": {"name": "Muon"}},
    "previous_sessions": [{"start_time": "2026-01-01T00:00:00Z"}],
}


class Run:
    def __init__(self):
        self.logged = []
        self.summary = {}
        self.exit_code = None

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self, exit_code):
        self.exit_code = exit_code


def stand_in():
    module = types.SimpleNamespace(run=Run(), arguments=None)

    def init(**arguments):
        module.arguments = arguments
        return module.run

    module.init = init
    return module


class WandbBridgeTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))

    def write(self, name, text):
        with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
            file.write(text)

    def replay(self, *flags):
        wandb = stand_in()
        count = wandb_bridge.replay(wandb_bridge.parse([self.directory, *flags]), wandb)
        return wandb, count

    def test_every_line_is_logged_at_its_step(self):
        self.write("metrics.jsonl", "".join(line + "\n" for line in STEPS))
        self.write("run.json", json.dumps(RECORD))
        wandb, count = self.replay("--project", "p", "--entity", "team")
        self.assertEqual(count, 3)
        self.assertEqual([step for step, _ in wandb.run.logged], [1, 1, 2])
        first, validation, second = [values for _, values in wandb.run.logged]
        self.assertEqual(first, {
            "loss_metrics/global_avg_loss": 7.5, "grad_norm": 2.0, "lr/Muon": 0.001, "n_tokens_seen": 64,
            "throughput(tps)": 128.0, "tflops": 0.25, "mfu(%)": 50.0, "time_metrics/end_to_end(s)": 0.5,
            "time_metrics/data_loading(s)": 0.01, "time_metrics/data_loading(%)": 2.0,
            "memory/max_reserved(GiB)": 1.0, "bytes_sent/fsdp": 100, "bytes_sent/world": 24,
        })
        self.assertEqual(validation, {
            "validation_metrics/loss": 7.25, "validation_metrics/throughput(tps)": 10.0,
            "validation_metrics/memory/max_reserved(GiB)": 2.0,
        })
        self.assertNotIn("loss_metrics/global_avg_loss", second, "not finite")
        self.assertNotIn("mfu(%)", second, "the peak is not known")
        self.assertEqual(second["time_metrics/checkpoint(s)"], 0.125)
        self.assertEqual(second["failed_saves"], 1)

        self.assertEqual(wandb.arguments["project"], "p")
        self.assertEqual(wandb.arguments["entity"], "team")
        self.assertEqual(wandb.arguments["name"], "llama3/debug")
        self.assertEqual(wandb.arguments["mode"], "offline")
        self.assertEqual(wandb.arguments["dir"], self.directory)
        self.assertEqual(wandb.arguments["config"]["experiment"], {"optimizer": {"name": "Muon"}})
        self.assertEqual(wandb.run.exit_code, 4)
        self.assertEqual(wandb.run.summary, {"ending": "non-finite loss", "last_step": 2})

    def test_a_replay_goes_into_the_same_run(self):
        self.write("metrics.jsonl", STEPS[0] + "\n")
        self.write("run.json", json.dumps(RECORD))
        first = self.replay()[0].arguments
        # A later session of the same run directory: what was the newest is among the earlier ones.
        later = dict(RECORD, start_time="2026-01-03T00:00:00Z",
                     previous_sessions=RECORD["previous_sessions"] + [{"start_time": RECORD["start_time"]}])
        self.write("run.json", json.dumps(later))
        second = self.replay()[0].arguments
        self.assertEqual(first["id"], second["id"])
        self.assertEqual(second["resume"], "allow")
        self.write("run.json", json.dumps(dict(RECORD, previous_sessions=[])))
        self.assertNotEqual(self.replay()[0].arguments["id"], first["id"])

    def test_a_line_that_is_being_written_waits(self):
        self.write("metrics.jsonl", STEPS[0] + "\n" + STEPS[1][:30])
        self.write("run.json", json.dumps(RECORD))
        self.assertEqual(self.replay()[1], 1)

    def test_follows_until_the_run_has_ended(self):
        self.write("metrics.jsonl", STEPS[0] + "\n")
        self.write("run.json", json.dumps(dict(RECORD, end_time=None, exit_code=None)))

        def go_on():
            time.sleep(0.2)
            with open(os.path.join(self.directory, "metrics.jsonl"), "a", encoding="utf-8") as file:
                file.write(STEPS[1] + "\n" + STEPS[2] + "\n")
            path = os.path.join(self.directory, "run.json")
            with open(path + ".new", "w", encoding="utf-8") as file:
                json.dump(dict(RECORD, exit_code=0), file)
            os.rename(path + ".new", path)

        thread = threading.Thread(target=go_on)
        thread.start()
        wandb, count = self.replay("--follow", "--interval", "0.02")
        thread.join()
        self.assertEqual(count, 3)
        self.assertEqual([step for step, _ in wandb.run.logged], [1, 1, 2])
        self.assertEqual(wandb.run.exit_code, 0)

    def test_what_is_wrong_is_said(self):
        with self.assertRaisesRegex(SystemExit, "is it|directory of a run"):
            self.replay()
        self.write("run.json", json.dumps(RECORD))
        self.write("metrics.jsonl", STEPS[0] + "\nnonsense\n")
        with self.assertRaisesRegex(SystemExit, "metrics.jsonl:2:"):
            self.replay()

    def test_says_what_to_install(self):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wandb_bridge.py")
        # Isolated and without site packages: no wandb, whatever this machine has.
        done = subprocess.run([sys.executable, "-I", "-S", program, self.directory], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("pip install wandb", done.stderr)


if __name__ == "__main__":
    unittest.main()
