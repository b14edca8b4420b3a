#!/bin/bash
# tokenize_corpus_test.sh TOKENIZE_CORPUS: what titan_tokenized_corpus has made is what the tool makes with any number of
# threads; what is wrong is refused by name, and leaves nothing behind.
set -uo pipefail
readonly tool=$1 data=experiments/data tmp=$TEST_TMPDIR
readonly tokenizer=$data/debug_tokenizer.json corpus=$data/django_docs.jsonl
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

for threads in 1 3; do
  "$tool" --tokenizer $tokenizer --out "$tmp/$threads.safetensors" --manifest "$tmp/$threads.json" --threads $threads \
    django_docs.jsonl=$corpus || fail "$threads threads"
  cmp "$tmp/$threads.safetensors" $data/django_docs_tokens.safetensors || fail "$threads threads: other bytes"
done
cmp "$tmp/1.json" "$tmp/3.json" || fail "other manifests"
grep -q "$(sha256sum <$corpus | cut -d' ' -f1)" "$tmp/1.json" || fail "the manifest does not list the corpus"
grep -q "$(sha256sum <$tokenizer | cut -d' ' -f1)" "$tmp/1.json" || fail "the manifest does not list the tokenizer"
grep -q "$(sha256sum <"$tmp/1.safetensors" | cut -d' ' -f1)" "$tmp/1.json" || fail "the manifest does not list the tokens"

out=(--tokenizer $tokenizer --out "$tmp/bad.safetensors")
printf '{"text": "fine"}\n{"body": "x"}\n' >"$tmp/bad.jsonl"
refuses 'bad.jsonl:2: no string "text"' "${out[@]}" "$tmp/bad.jsonl"
refuses 'no files were given' "${out[@]}"
refuses 'is no format of text' "${out[@]}" --format tokens $corpus
refuses 'must end with .safetensors' --tokenizer $tokenizer --out "$tmp/bad.bin" $corpus
: >"$tmp/empty.jsonl"
refuses 'no documents in the corpus' "${out[@]}" "$tmp/empty.jsonl"
ls "$tmp" | grep bad.safetensors && fail "a refused corpus left a file behind"
exit $((failures > 0))
