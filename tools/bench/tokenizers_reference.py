"""Hugging Face's tokenizers over the corpus of titan/data/tokenizer_benchmark: what our speed is measured against.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python tokenizers_reference.py --threads 2 TOKENIZER.json CORPUS.jsonl

Prints a line for each pass: MB/s and million tokens/s by the clock, and MB per second of a core. Documents go through
`encode_batch_fast`, which leaves offsets out, in batches: the library's fastest way. No part of the build uses this.
"""

import argparse
import json
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("tokenizer")
parser.add_argument("corpus")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--passes", type=int, default=3)
parser.add_argument("--batch", type=int, default=256)
arguments = parser.parse_args()
os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)  # read when the library first runs in parallel
os.environ["TOKENIZERS_PARALLELISM"] = "true" if arguments.threads > 1 else "false"

import tokenizers  # noqa: E402  (after its settings)

tokenizer = tokenizers.Tokenizer.from_file(arguments.tokenizer)
with open(arguments.corpus, encoding="utf-8") as file:
    documents = [json.loads(line)["text"] for line in file if line.strip()]
size = sum(len(document.encode()) for document in documents)
for number in range(arguments.passes):
    start, cpu_start = time.perf_counter(), time.process_time()
    tokens = 0
    for i in range(0, len(documents), arguments.batch):
        batch = tokenizer.encode_batch_fast(documents[i : i + arguments.batch], add_special_tokens=False)
        tokens += sum(len(encoding) for encoding in batch)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    print(
        f"pass {number}: {size / seconds / 1e6:.2f} MB/s, {tokens / seconds / 1e6:.3f} million tokens/s, "
        f"{size / cpu_seconds / 1e6:.2f} MB per second of a core, {size / tokens:.4f} bytes per token"
    )
