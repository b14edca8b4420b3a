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

expect 0 "" "$tool" to_hf run/step-0 sharded --max_shard_bytes 100000
[ -e sharded/model.safetensors.index.json ] || fail "to_hf --max_shard_bytes wrote one file"
expect 0 "sharded_again/step-0" "$tool" from_hf sharded sharded_again
cmp run/step-0/shard-00000.safetensors sharded_again/step-0/shard-00000.safetensors

# A state dict that torch.save has written of the same model.
expect 0 "from_torch/step-0" "$tool" from_pt "$fixture/../torch/llama3_2_tied.pt" from_torch --config "$fixture/config.json"
cmp run/step-0/shard-00000.safetensors from_torch/step-0/shard-00000.safetensors
expect 0 "" "$tool" to_pt run/step-0 model.pt
expect 0 "back/step-0" "$tool" from_pt model.pt back --config "$fixture/config.json"
cmp run/step-0/shard-00000.safetensors back/step-0/shard-00000.safetensors
expect 0 "" "$tool" to_pt run/step-0 model.pt --dtype bfloat16
expect 2 "GLOBAL posix.system is refused" "$tool" from_pt "$fixture/../torch/evil.pt" never --config "$fixture/config.json"
expect 2 "lm_head.weight: missing\|output.weight: missing" "$tool" from_pt "$fixture/../torch/module.pt" never \
  --config "$fixture/../llama_plain/config.json"
expect 2 "config is missing" "$tool" from_pt model.pt never

# In several files, and back.
expect 0 "many/step-0" "$tool" reshard run/step-0 many --shards 5
[ "$(ls many/step-0 | grep -c safetensors)" = 5 ] || fail "not 5 files: $(ls many/step-0)"
expect 0 "all checksums match" "$tool" verify many
expect 0 "20 tensors equal, 0 different, 0 in one alone" "$tool" diff run/step-0 many/step-0
expect 0 "one/step-0" "$tool" reshard many/step-0 one --shards 1
expect 0 "" "$tool" diff run/step-0 one/step-0
expect 2 "is there already" "$tool" reshard run/step-0 many --shards 2

# The other way round, from a Hugging Face folder; in bfloat16 the tensors are others.
expect 0 "20 tensors equal" "$tool" diff many/step-0 "$fixture"
expect 0 "rounded/step-0" "$tool" from_pt model.pt rounded --config "$fixture/config.json"
expect 1 "different, 0 in one alone" "$tool" diff run/step-0 rounded/step-0
expect 1 "max abs" "$tool" diff run/step-0 rounded/step-0 --top 1
[ "$(wc -l <output)" = 3 ] || fail "diff --top 1 printed more than a head, a tensor and a summary: $(cat output)"
expect 1 "only in .*llama_plain: model.output.weight" "$tool" diff "$fixture/../llama_plain" many/step-0
expect 2 "no such checkpoint" "$tool" diff run/step-0 missing

# One flipped byte in the last tensor.
shard=again/step-0/shard-00000.safetensors
last=$(($(wc -c <"$shard") - 1))
printf 'x' | dd of="$shard" bs=1 seek="$last" conv=notrunc 2>/dev/null
expect 1 "shard-00000.safetensors: tensor \"model.* is damaged" "$tool" verify again
expect 1 "is damaged" "$tool" to_hf again/step-0 never
expect 1 "is damaged" "$tool" reshard again/step-0 never --shards 2
expect 2 "is damaged" "$tool" diff run/step-0 again/step-0
rmdir never
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
