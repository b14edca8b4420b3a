#!/bin/sh
# The pipeline_schedule tool: docs/pipeline_schedules.md shows what it prints, a CSV goes in and out, errors exit with 2.
# $1: the tool. $2: the page.
set -eu
tool=$PWD/$1
page=$PWD/$2
cd "$TEST_TMPDIR"

fail() {
  echo "$1" >&2
  exit 1
}

# Each line that the tool prints for "$@" must be a line of the page.
on_page() {
  "$tool" "$@" >output
  [ -s output ] || fail "$*: no output"
  while IFS= read -r line; do
    grep -qxF -- "$line" "$page" || fail "docs/pipeline_schedules.md lacks what '$*' prints: $line"
  done <output
}

on_page --schedule all --ranks 3 --microbatches 6
on_page --schedule all --ranks 4 --microbatches 8 --print table
on_page --schedule all --ranks 4 --microbatches 32 --print table

# Runs "$@", which must exit with code 2 and print $1.
refuses() {
  text=$1
  shift
  actual=0
  "$@" >output 2>&1 || actual=$?
  [ "$actual" = 2 ] || fail "$*: exit code $actual: $(cat output)"
  grep -qF -- "$text" output || fail "$*: '$text' is not in its output: $(cat output)"
}

"$tool" --schedule ZBVZeroBubble --ranks 2 --microbatches 4 --print csv >zbv.csv
"$tool" --csv zbv.csv --ranks 2 --microbatches 4 --print csv >again.csv
cmp zbv.csv again.csv
tac zbv.csv >mirrored.csv
"$tool" --csv mirrored.csv --ranks 2 --microbatches 4 >output
sed 's/0F1,//' zbv.csv >broken.csv
refuses "the forward 0F1 is missing on rank 0" "$tool" --csv broken.csv --ranks 2 --microbatches 4
refuses "has 2 lines for 3 ranks" "$tool" --csv zbv.csv --ranks 3 --microbatches 4
refuses "takes exactly 2 stages per rank, not 3" "$tool" --schedule DualPipeV --ranks 2 --stages 6 --microbatches 8
refuses "give either --schedule or --csv" "$tool" --ranks 2 --microbatches 8
