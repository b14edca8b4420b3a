"""Writes the .pt files beside it: what torch.save makes of state dicts, and what a reader must refuse.

usage: python make.py     (torch 2.11.0; the files depend on its version)
"""

import collections
import json
import os
import struct
import zipfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def path(name):
    return os.path.join(HERE, name)


def read_safetensors(name):
    with open(name, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = bytearray(file.read())
    tensors = collections.OrderedDict()
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensor = torch.frombuffer(data[begin:end], dtype=DTYPES[entry["dtype"]])
        tensors[key] = tensor.view(entry["shape"]).clone()
    return tensors


def layouts():
    """Views of storages in every way, and every dtype that has a storage."""
    base = torch.arange(24, dtype=torch.float32).view(2, 3, 4)
    state = collections.OrderedDict()
    state["whole"] = base
    state["permuted"] = base.permute(2, 0, 1)
    state["slice"] = base[1, 1:, ::2]
    state["expanded"] = torch.tensor([[5.0], [6.0]]).expand(2, 3)
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    state["empty"] = torch.empty(0, 3)
    state["scalar"] = torch.tensor(3.5)
    for dtype in (
        torch.float64,
        torch.bfloat16,
        torch.float16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    ):
        state[str(dtype)] = torch.arange(5).to(dtype)
    state["torch.bool"] = torch.tensor([True, False, True])
    return state


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/this_must_not_be",)


def main():
    torch.save(layouts(), path("layouts.pt"))
    # With "_metadata", as nn.Module.state_dict() has it.
    torch.save(torch.nn.Linear(2, 3).state_dict(), path("module.pt"))

    llama = read_safetensors(os.path.join(HERE, "..", "llama3_2_tied", "model.safetensors"))
    llama["lm_head.weight"] = llama["model.embed_tokens.weight"]
    torch.save(llama, path("llama3_2_tied.pt"))

    small = {"a": torch.arange(3.0)}
    torch.save({"a": torch.arange(3.0), "b": Evil()}, path("evil.pt"))
    torch.save({"model": small, "epoch": 3}, path("nested.pt"))
    torch.save(torch.arange(3.0), path("tensor.pt"))
    torch.save(small, path("protocol4.pt"), pickle_protocol=4)
    torch.save(small, path("legacy.pt"), _use_new_zipfile_serialization=False)
    torch.save({"a": torch.zeros(2, dtype=torch.float8_e4m3fn)}, path("float8.pt"))
    torch.save({"a": torch.zeros(2, dtype=torch.complex64)}, path("complex.pt"))
    torch.save(small, path("small.pt"))
    with zipfile.ZipFile(path("small.pt")) as source:
        with zipfile.ZipFile(path("deflated.pt"), "w", zipfile.ZIP_DEFLATED) as target:
            for info in source.infolist():
                target.writestr(info.filename, source.read(info))
        # As another tool may store it: without alignment, without zip64.
        with zipfile.ZipFile(path("unaligned.pt"), "w", zipfile.ZIP_STORED) as target:
            for info in source.infolist():
                target.writestr(zipfile.ZipInfo(info.filename), source.read(info))


if __name__ == "__main__":
    main()
