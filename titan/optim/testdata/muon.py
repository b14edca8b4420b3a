"""Makes muon.json: what torch.optim.Muon of PyTorch 2.11 does to small matrices in three steps.

    python3 muon.py > muon.json

Each case is run twice: as it is, where Newton-Schulz computes in bfloat16, and with that one conversion left out, in float32.
"""

import json
import math
import sys

import torch

SHAPES = [(4, 6), (7, 3), (5, 5)]
STEPS = 3
CASES = [
    {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True, "ns_steps": 5, "adjust_lr_fn": "original"},
    {
        "lr": 0.005,
        "weight_decay": 0.0,
        "momentum": 0.9,
        "nesterov": False,
        "ns_steps": 3,
        "adjust_lr_fn": "match_rms_adamw",
    },
]


def values(shape, phase):
    """Fixed float32 values of both signs."""
    size = math.prod(shape)
    exact = [math.sin(1.7 * i * i + 0.3 * i + phase) for i in range(size)]
    return torch.tensor(exact, dtype=torch.float32).reshape(shape)


def numbers(tensor):
    return tensor.flatten().tolist()


def run(case):
    parameters = [torch.nn.Parameter(values(shape, 1.0)) for shape in SHAPES]
    optimizer = torch.optim.Muon(parameters, **case)
    for step in range(STEPS):
        for parameter in parameters:
            parameter.grad = values(parameter.shape, 2.0 + step)
        optimizer.step()
    return {
        "parameters": [numbers(p.detach()) for p in parameters],
        "momentum": [numbers(optimizer.state[p]["momentum_buffer"]) for p in parameters],
    }


def main():
    result = {"torch": torch.__version__, "shapes": SHAPES, "cases": []}
    result["start"] = [numbers(values(shape, 1.0)) for shape in SHAPES]
    result["gradients"] = [[numbers(values(shape, 2.0 + step)) for shape in SHAPES] for step in range(STEPS)]
    in_bfloat16 = torch.Tensor.bfloat16
    for case in CASES:
        rounded = run(case)
        torch.Tensor.bfloat16 = torch.Tensor.clone
        exact = run(case)
        torch.Tensor.bfloat16 = in_bfloat16
        result["cases"].append({"settings": case, "bfloat16": rounded, "float32": exact})
    json.dump(result, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
