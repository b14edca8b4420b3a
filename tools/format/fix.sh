#!/bin/bash
# fix.sh BUILDIFIER CLANG_FORMAT JSONNET_FORMAT [PATH...]: formats the sources under PATH (default: the whole checkout) in
# place, as format_test wants them.
set -euo pipefail
[[ -n ${BUILD_WORKSPACE_DIRECTORY:-} ]] || {
  echo "fix.sh: run it as ./bazelw run //tools/format:fix [-- PATH...]" >&2
  exit 2
}
BUILDIFIER=$PWD/$1 CLANG_FORMAT=$PWD/$2 JSONNET_FORMAT=$PWD/$3
shift 3
source tools/format/formatted.sh

temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT
paths=()
for path in "${@:-$BUILD_WORKSPACE_DIRECTORY}"; do
  paths+=("$(cd "$BUILD_WORKING_DIRECTORY" && realpath -e -- "$path")")
done
cd "$BUILD_WORKSPACE_DIRECTORY"

changed=0
failed=0
while IFS= read -r -d '' file; do
  file=${file#"$PWD/"}
  if ! formatted "$file" >"$temporary"; then
    failed=1
  elif ! cmp -s "$file" "$temporary"; then
    cat "$temporary" >"$file" # Keeps the file's permissions.
    echo "formatted $file"
    changed=$((changed + 1))
  fi
done < <(find "${paths[@]}" '(' -name .git -o -name testdata ')' -prune -o -type f '(' -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \
  -o -name '*.h' -o -name '*.proto' -o -name '*.BUILD' -o -name '*.bazel' -o -name '*.bzl' \
  -o -name '*.jsonnet' -o -name '*.libsonnet' ')' -print0 | sort -z)
echo "$changed files changed"
exit $failed
