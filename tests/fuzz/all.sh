#!/bin/bash
# all.sh SECONDS [OUT]: every fuzz target of --config=fuzz for SECONDS, all at once, each again after it has found
# something; four processes of the tokenizer's ($TOKENIZER_JOBS). At the end a line for each: how many inputs it ran, how
# many edges of the code they reached, how many new inputs reached new ones, and how many inputs ended badly.
#
# In OUT (/tmp/fuzz): TARGET.crash-*, timeout-*, oom-*, leak-*, with the ends of their logs; new/TARGET, inputs with new
# coverage, from which the next run goes on. Exit code 1 if anything was found.
set -euo pipefail
seconds=${1:?seconds}
out=${2:-/tmp/fuzz}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binaries=$here/../../bazel-bin/tests/fuzz
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export UBSAN_OPTIONS=print_stacktrace=1

# Where ptrace is forbidden, leaks cannot be looked for.
leaks=1
if ! "$binaries/config_json_fuzz" -runs=1 "$here/corpus/config_json" >"$logs/first" 2>&1; then
  grep -q "LeakSanitizer has encountered a fatal error" "$logs/first" || { tail -n 20 "$logs/first"; exit 1; }
  leaks=0
fi

# run_one TARGET JOB
run_one() {
  local target=$1 end=$((SECONDS + seconds)) round=0 left log
  local options=(-timeout=25 -rss_limit_mb=4096 -max_len=8192 -detect_leaks=$leaks -reload=30 -print_final_stats=1)
  [[ ! -f $here/$target.dict ]] || options+=("-dict=$here/$target.dict")
  while left=$((end - SECONDS)) && ((left > 1 && ++round <= 40)); do
    log=$logs/$target.$2.$round
    "$binaries/${target}_fuzz" -max_total_time=$left "${options[@]}" -artifact_prefix="$out/$target." \
      "$out/new/$target" "$here/corpus/$target" >"$log" 2>&1 || tail -c 6000 "$log" >"$out/$target.$2.$round.log"
  done
}

targets=$(basename -a "$here"/corpus/*)
declare -A before
for target in $targets; do
  mkdir -p "$out/new/$target"
  before[$target]=$(find "$out/new/$target" -type f | wc -l)
  jobs=1
  [[ $target != tokenizer ]] || jobs=${TOKENIZER_JOBS:-4}
  for job in $(seq "$jobs"); do run_one "$target" "$job" & done
done
wait

printf '%-16s %12s %8s %8s %10s %6s\n' target inputs each_s edges new_inputs found
all_found=0
for target in $targets; do
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$target".* | awk '{n += $1} END {printf "%d", n}')
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$logs/$target".* | sort -n | tail -n 1)
  new=$(($(find "$out/new/$target" -type f | wc -l) - before[$target]))
  found=$(find "$out" -maxdepth 1 -type f -regex ".*/$target\.\(crash\|timeout\|oom\|leak\)-.*" | wc -l)
  all_found=$((all_found + found))
  printf '%-16s %12d %8d %8s %10d %6d\n' "$target" "$inputs" $((inputs / seconds)) "${edges:--}" "$new" "$found"
done
((all_found == 0))
