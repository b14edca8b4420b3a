"""Makes the files beside it, with pyarrow 26.0.1: python3 make.py. The same texts in every format, and some that are wrong."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq

os.chdir(os.path.dirname(os.path.abspath(__file__)))

TEXTS = [
    "Models learn words.", "", "Two\nlines and a \"quote\"\t\\.", "Grüße, 世界, \U0001f642", "z" * 3000, " ", "7", "null",
    "a\u0000b", "e\u0301 is not \u00e9", "\u2028", "The last one.",
]
LINES = "".join(json.dumps({"id": i, "text": t, "meta": {"text": "not this"}}, ensure_ascii=i % 2 == 0) + "\n"
                for i, t in enumerate(TEXTS)).encode()


def write(name, data):
    with open(name, "wb") as f:
        f.write(data)


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


cut = len(LINES) // 2
write("texts.jsonl", LINES)
# As `cat a.gz b.gz` and their like for Zstandard make them.
write("two_members.json.gz", gzip.compress(LINES[:cut], mtime=0) + gzip.compress(LINES[cut:], mtime=0))
write("two_frames.jsonl.zst", zstd(LINES[:cut]) + zstd(LINES[cut:]))
write("one.txt.gz", gzip.compress(TEXTS[3].encode(), mtime=0))
write("one.txt.zst", zstd(TEXTS[3].encode()))
write("truncated.jsonl.gz", gzip.compress(LINES, mtime=0)[:-20])
write("truncated.jsonl.zst", zstd(LINES)[:-20])
write("empty.jsonl.gz", b"")

meta = pa.array([{"text": "not this", "n": i} for i in range(len(TEXTS))])
ids = pa.array(range(len(TEXTS)))


def table(texts):
    return pa.table({"id": ids, "meta": meta, "text": texts})


strings = pa.array(TEXTS, pa.string())
for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
    pq.write_table(table(strings), codec + ".parquet", compression=codec, row_group_size=5)
pq.write_table(table(pa.array(TEXTS, pa.large_string())), "large.parquet", use_dictionary=False, data_page_version="2.0")
pq.write_table(table(pa.array(TEXTS * 1, pa.string()).dictionary_encode()), "dictionary.parquet")
pq.write_table(pa.table({"text": pa.array(["a", None], pa.string())}), "null.parquet")
pq.write_table(pa.table({"text": pa.array([1, 2])}), "numbers.parquet")
pq.write_table(pa.table({"text": pa.array([], pa.string())}), "no_rows.parquet")

for name, array in [("file", strings), ("dictionary", strings.dictionary_encode()), ("view", strings.cast(pa.string_view()))]:
    t = table(array)
    with pa.ipc.new_file(name + ".arrow", t.schema) as f:
        f.write_table(t, max_chunksize=5)
# As Hugging Face's `datasets` keeps its tables.
with pa.ipc.new_stream("stream.arrow", table(strings).schema) as f:
    f.write_table(table(strings), max_chunksize=5)
with pa.ipc.new_file("zstd.arrow", table(strings).schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as f:
    f.write_table(table(strings))
