#!/bin/bash
# The build actions' own commands refuse what a build must refuse. Sees the same failures as
# `bazel build //tests/rules:invalid.plan`, without a Bazel in a Bazel.
set -uo pipefail
evaluate=$1 config=$2 plan=$3
failed=0

# refuses WHAT PATTERN... -- COMMAND...: COMMAND fails, and prints each PATTERN.
refuses() {
  local what=$1 patterns=() output status
  shift
  while [[ $1 != -- ]]; do
    patterns+=("$1")
    shift
  done
  shift
  output=$("$@" 2>&1)
  status=$?
  if [[ $status == 0 ]]; then
    echo "FAILED: $what was accepted"
    failed=1
  fi
  for pattern in "${patterns[@]}"; do
    if ! grep -qF -- "$pattern" <<<"$output"; then
      echo "FAILED: $what: expected '$pattern' (exit code $status) in:"
      echo "$output"
      failed=1
    fi
  done
}

cd "$TEST_SRCDIR/$TEST_WORKSPACE"
out=$TEST_TMPDIR
rules=tests/rules

refuses "an undeclared import" "sizes.libsonnet" "not declared" -- \
  "$evaluate" "$out/a.json" $rules/undeclared.jsonnet $rules/undeclared.jsonnet
refuses "an undeclared importstr" "words.txt" "not declared" -- \
  "$evaluate" "$out/a.json" $rules/undeclared_string.jsonnet $rules/undeclared_string.jsonnet
"$evaluate" "$out/a.json" $rules/undeclared.jsonnet $rules/undeclared.jsonnet $rules/sizes.libsonnet || failed=1

"$evaluate" "$out/invalid.json" $rules/invalid.jsonnet $rules/invalid.jsonnet || failed=1
refuses "an invalid experiment" model.dim training.sequence_len optimizer.lr -- \
  "$config" resolve --json "$out/invalid.json" --source_name $rules/invalid.jsonnet --out "$out/invalid.binpb"
if [[ -e $out/invalid.binpb ]]; then
  echo "FAILED: an invalid experiment left an output"
  failed=1
fi

"$evaluate" "$out/large.json" $rules/too_large.jsonnet $rules/too_large.jsonnet || failed=1
"$config" resolve --json "$out/large.json" --source_name $rules/too_large.jsonnet --out "$out/large.binpb" || failed=1
refuses "an experiment that does not fit" "GiB" -- "$plan" --name too_large --experiment "$out/large.binpb" \
  --text "$out/plan.txt" --json "$out/plan.json" --html "$out/plan.html"
exit $failed
