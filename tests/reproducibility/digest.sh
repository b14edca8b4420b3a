#!/bin/bash
# digest.sh DIRECTORY [FLAG...]: shows that the digest of //experiments/llama3:debug depends on its sources alone.
#
# Builds the committed state in two checkouts and two output bases: once sandboxed, with what the disk cache has, and once
# without sandbox and without cache. Then changes one byte of a source, the Jsonnet file, the tokenizer and the corpus, each
# of which must change the digest. DIRECTORY must not exist; it takes 4 GB. FLAGS go to all builds, such as --jobs=2.
set -euo pipefail
directory=$(realpath -m "$1")
shift
flags=("$@")
target=//experiments/llama3:debug
package=experiments/llama3
repository=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
mkdir "$directory"

# digest CHECKOUT OUTPUT_BASE FLAG...: builds and prints the digest.
digest() {
  local checkout=$1 output_base=$2
  shift 2
  cd "$checkout"
  ./bazelw --output_base="$output_base" build --symlink_prefix=/ "${flags[@]}" "$@" "$target.digest" \
    >>"$directory/build.log" 2>&1 || { tail -30 "$directory/build.log" >&2; exit 1; }
  manifest=$output_base/execroot/titan/bazel-out/k8-opt/bin/$package/debug.MANIFEST
  cp -f "$manifest" "$checkout.MANIFEST"
  sha256sum <"$manifest" | cut -d' ' -f1
}

expect_equal() {
  if [[ $2 != "$3" ]]; then
    echo "FAILED: $1: $2 is not $3"
    diff "$first.MANIFEST" "$second.MANIFEST" || true
    exit 1
  fi
  echo "equal    $2  $1"
}

expect_other() {
  if [[ $2 == "$3" || ! $2 =~ ^[0-9a-f]{64}$ ]]; then
    echo "FAILED: $1: the digest was $3 and is $2"
    exit 1
  fi
  echo "differs  $2  $1"
}

# with_change WHAT FILE: one byte more in FILE of the first checkout, which is then put back.
with_change() {
  cp -p "$first/$2" "$directory/original"
  printf ' ' >>"$first/$2"
  expect_other "$1 ($2)" "$(digest "$first" "$directory/output_base")" "$reference"
  cp -p "$directory/original" "$first/$2"
}

first=$directory/first
second=$directory/another/place
git clone -q "$repository" "$first"
git clone -q "$repository" "$second"

reference=$(digest "$first" "$directory/output_base" --spawn_strategy=sandboxed)
echo "         $reference  first checkout, sandboxed"
expect_equal "second checkout and output base, standalone, no cache" \
  "$(digest "$second" "$directory/another/output_base" --disk_cache= --spawn_strategy=standalone)" "$reference"
(cd "$second" && ./bazelw --output_base="$directory/another/output_base" shutdown)

with_change "source" titan/train/trainer.cc
with_change "Jsonnet" $package/debug.jsonnet
with_change "Jsonnet library" experiments/lib/llama3.libsonnet
with_change "tokenizer" experiments/data/debug_tokenizer.json

# The corpus comes out of a pinned package: bind a copy of it, and then change a byte of that.
corpus=$(find "$directory/output_base/execroot/titan/bazel-out/k8-opt/bin/experiments/data" -name django_docs.jsonl)
cp "$corpus" "$first/$package/django_docs.jsonl"
sed -i 's|"//experiments/data:django_docs"|"django_docs.jsonl"|' "$first/$package/BUILD.bazel"
copied=$(digest "$first" "$directory/output_base")
printf ' ' >>"$first/$package/django_docs.jsonl"
expect_other "corpus (a copy of django_docs.jsonl)" "$(digest "$first" "$directory/output_base")" "$copied"
(cd "$first" && ./bazelw --output_base="$directory/output_base" shutdown)
