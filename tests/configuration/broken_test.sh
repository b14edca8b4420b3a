#!/bin/bash
# broken_test.sh EXPERIMENT_CONFIG: each configuration in broken/ gives all its errors, as broken/NAME.errors lists them,
# and exit code 2. NAME.json is read as it is or made from NAME.jsonnet; NAME.flags has further flags, one on each line.
set -uo pipefail
readonly tool=$1 folder=tests/configuration
failures=0

fail() {
  echo "FAIL $1" >&2
  failures=$((failures + 1))
}

check() { # NAME: prints the errors
  local source=$folder/broken/$1.json flags=()
  if [[ -f $folder/broken/$1.jsonnet ]]; then
    source=$folder/broken/$1.jsonnet
    flags+=("--jsonnet_source=$source" "--jsonnet_source=$folder/valid.libsonnet")
  fi
  [[ -f $folder/broken/$1.flags ]] && mapfile -t -O "${#flags[@]}" flags <"$folder/broken/$1.flags"
  "$tool" check --json "$folder/broken/$1.json" --source_name "$source" "${flags[@]}" 2>&1
}

if ! "$tool" check --json $folder/valid.json; then fail "valid.libsonnet must pass"; fi

count=0
for expected in "$folder"/broken/*.errors; do
  name=$(basename "$expected" .errors)
  actual=$(check "$name")
  code=$?
  [[ $code == 2 ]] || fail "$name: exit code $code, expected 2"
  diff -u "$expected" - <<<"$actual" >&2 || fail "$name: other errors than expected"
  count=$((count + 1))
done
[[ $count -ge 30 ]] || fail "only $count broken configurations were found"
exit $((failures > 0))
