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

# A pipeline schedule from a file.
"$evaluate" "$out/valid.json" $rules/valid.jsonnet $rules/valid.jsonnet $rules/sizes.libsonnet || failed=1
"$config" resolve --json "$out/valid.json" --source_name $rules/valid.jsonnet --out "$out/valid.binpb" || failed=1
plan_with() {
  "$plan" --name valid --experiment "$out/valid.binpb" "$@" --text "$out/valid.txt"
  echo "exit code $?"
}
for file in schedule deadlock; do
  plan_with --file "schedule.csv=$rules/$file.csv" >"$out/$file.log" 2>&1
done
grep -qx "exit code 0" "$out/schedule.log" || { cat "$out/schedule.log"; failed=1; }
cut -d, -f2- $rules/schedule.csv >"$out/incomplete.csv"
plan_with --file "schedule.csv=$out/incomplete.csv" >"$out/incomplete.log" 2>&1
plan_with --file "other.csv=$rules/schedule.csv" >"$out/unnamed.log" 2>&1
# says LOG TEXT: the plan was refused with exit code 2, and TEXT.
says() {
  if ! grep -qx "exit code 2" "$out/$1.log" || ! grep -qF -- "$2" "$out/$1.log"; then
    echo "FAILED: $1: expected '$2' and exit code 2 in:"
    cat "$out/$1.log"
    failed=1
  fi
}
says deadlock "rank 0, action 2 (0B0) waits for rank 1, action 4 (1B0)"
says incomplete "the forward 0F0 is missing on rank 0"
says unnamed "parallelism.pipeline_parallel_schedule_csv: schedule.csv is not among the files of this experiment"
exit $failed
