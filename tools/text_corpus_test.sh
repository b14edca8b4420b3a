#!/bin/bash
# text_corpus_test.sh TEXT_CORPUS FILE.jsonl...: what titan_text_corpus has made of the same texts in every format is the
# same, and in the order of the files; what is wrong is refused by name, and leaves nothing behind that looks whole.
set -uo pipefail
readonly tool=$1 tmp=$TEST_TMPDIR
shift
failures=0

fail() {
  echo "FAIL $1" >&2
  failures=$((failures + 1))
}

refuses() { # MESSAGE ARGUMENT...
  local message=$1 output
  shift
  output=$("$tool" "$@" 2>&1)
  [[ $? == 2 ]] || fail "$message: exit code"
  [[ $output == *"$message"* ]] || fail "no \"$message\" in: $output"
}

[[ "${*##*/}" == "snappy.parquet.jsonl stream.arrow.jsonl texts.jsonl.jsonl two_frames.jsonl.zst.jsonl two_members.json.gz.jsonl" ]] ||
  fail "the files are $*"
for file in "$@"; do
  cmp "$file" "$1" || fail "$file"
done
[[ $(wc -l <"$1") == 12 ]] || fail "lines"
[[ $(head -1 "$1") == '{"text":"Models learn words."}' ]] || fail "the first line"

printf '{"text": "fine"}\n{"body": "x"}\n' >"$tmp/bad.jsonl"
refuses 'bad.jsonl: line 2: no string "text"' --out "$tmp/out.jsonl" "$tmp/bad.jsonl"
refuses 'one file is wanted' --out "$tmp/out.jsonl"
printf '\xff' >"$tmp/bad.txt"
refuses 'bad.txt: not UTF-8' --out "$tmp/out.jsonl" "$tmp/bad.txt"
gzip -c "$tmp/bad.jsonl" | head -c 30 >"$tmp/cut.jsonl.gz"
refuses 'cut.jsonl.gz: Truncated' --out "$tmp/out.jsonl" "$tmp/cut.jsonl.gz"
[[ -e "$tmp/out.jsonl" ]] && fail "a refused file left text behind"
exit $((failures > 0))
