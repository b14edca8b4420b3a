#!/bin/sh
# The checkpoint tool on a Hugging Face fixture: in, looked at, out again, damaged, pruned. $1: the tool.
set -eu
tool=$PWD/$1
fixture=$PWD/titan/checkpoint/testdata/llama3_2_tied
cd "$TEST_TMPDIR"

fail() {
  echo "$1" >&2
  exit 1
}

# Runs "$@", which must exit with code $1 and print $2 (on either stream).
expect() {
  code=$1
  text=$2
  shift 2
  actual=0
  "$@" >output 2>&1 || actual=$?
  [ "$actual" = "$code" ] || fail "$*: exit code $actual, expected $code: $(cat output)"
  [ -z "$text" ] || grep -q -- "$text" output || fail "$*: '$text' is not in its output: $(cat output)"
}

expect 0 "run/step-0" "$tool" from_hf "$fixture" run
expect 0 "all checksums match" "$tool" verify run
expect 0 "model.layers.1.attention.wq.weight" "$tool" inspect run/step-0
expect 0 "step-0: 20 tensors" "$tool" inspect run

# Out again: the same tensors, so a second trip gives the same bytes.
expect 0 "" "$tool" to_hf run/step-0 out --dtype float32
expect 0 "model.embed_tokens.weight" "$tool" inspect out/model.safetensors
expect 0 "again/step-0" "$tool" from_hf out again
cmp run/step-0/shard-00000.safetensors again/step-0/shard-00000.safetensors
expect 2 "not an empty folder" "$tool" to_hf run/step-0 out

expect 0 "" "$tool" to_file run/step-0 all.safetensors
expect 0 "model.norm.weight" "$tool" inspect all.safetensors

# One flipped byte in the last tensor.
shard=again/step-0/shard-00000.safetensors
last=$(($(wc -c <"$shard") - 1))
printf 'x' | dd of="$shard" bs=1 seek="$last" conv=notrunc 2>/dev/null
expect 1 "shard-00000.safetensors: tensor \"model.* is damaged" "$tool" verify again
expect 1 "is damaged" "$tool" to_hf again/step-0 never
[ ! -e never ] || fail "a damaged checkpoint was converted"

cp -r run/step-0 run/step-7.tmp
mkdir run/step-5
expect 0 "" "$tool" prune run --keep_latest_k 2
[ ! -e run/step-7.tmp ] || fail "prune left run/step-7.tmp"
expect 2 "keep_latest_k is missing" "$tool" prune run
expect 2 "unknown flag" "$tool" prune run --keep 2
expect 2 "no such" "$tool" verify missing
expect 1 "no file COMMITTED" "$tool" verify run/step-5
expect 2 "config.json" "$tool" from_hf run other
expect 2 "usage" "$tool"
expect 2 "did you mean verify" "$tool" verfy run
expect 2 "path" "$tool" to_hf run/step-0
echo passed
