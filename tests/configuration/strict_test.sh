#!/bin/bash
# strict_test.sh EVALUATE: experiments/lib/strict.libsonnet refuses names that the schema does not have, with the path of
# the field, what is known there, and the line of the experiment.
set -uo pipefail
readonly evaluate=$1 folder=tests/configuration
failures=0

expect() { # FILE MESSAGE LINE
  local output
  if output=$("$evaluate" "$TEST_TMPDIR/out.json" "$folder/$1" experiments/lib/*.libsonnet 2>&1); then
    echo "FAIL $1 must not evaluate" >&2
    failures=$((failures + 1))
  fi
  for text in "$2" "$folder/$1:($3:"; do
    [[ $output == *"$text"* ]] && continue
    echo "FAIL $1: no \"$text\" in: $output" >&2
    failures=$((failures + 1))
  done
}

expect strict_misspelt.jsonnet "optimizer.weigth_decay: unknown field; known fields: adjust_lr_fn, beta1, " 4
expect strict_list.jsonnet "data.sources.1.fromat: unknown field; known fields: corpus, format, text_field, " 4
exit $((failures > 0))
