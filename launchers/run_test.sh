#!/bin/bash
# Starts run.sh in bundles whose trainer only says how it was started.
set -uo pipefail
run=$PWD/$1
cd "$TEST_TMPDIR"
failed=0

# expect WHAT PATTERN: the last output holds PATTERN.
expect() {
  if ! grep -qF -- "$2" <<<"$output"; then
    echo "FAILED: $1: expected '$2' in:"
    echo "$output"
    failed=1
  fi
}

make_bundle() {
  mkdir -p "$1/bin"
  cp "$run" "$1/run"
  cat >"$1/bin/titan_trainer" <<'END'
#!/bin/sh
echo "path=${LD_LIBRARY_PATH-none}"
for argument in "$@"; do echo "argument=$argument"; done
END
  chmod +x "$1/bin/titan_trainer"
}

make_bundle full
mkdir full/lib
output=$(full/run --set 'a.b=c d' --out here)
expect "full bundle" "path=none"
expect "the bundle comes first" "argument=$PWD/full"
expect "arguments stay whole" "argument=a.b=c d"

make_bundle "thin one"
mkdir -p site/torch/lib site/nvidia/cudnn/lib site/nvidia/cu13/lib
touch site/torch/lib/libtorch_cpu.so site/torch/__init__.py
output=$("thin one/run" --torch_lib "$PWD/site/torch/lib" --dry_run)
expect "--torch_lib" "path=$PWD/site/torch/lib:$PWD/site/torch/lib/../../nvidia/cu13/lib"
expect "the wheels beside torch" "nvidia/cudnn/lib"
expect "a path with a space" "argument=$PWD/thin one"
expect "flags after it" "argument=--dry_run"

output=$(PYTHONPATH=$PWD/site "thin one/run" --dry_run)
expect "the wheel that python3 finds" "path=$PWD/site/torch/lib:"

output=$("thin one/run" --torch_lib /nowhere 2>&1)
status=$?
expect "a wrong folder" "no libtorch_cpu.so in /nowhere"
expect "what to do" "or use the full bundle"
if [[ $status != 2 ]]; then
  echo "FAILED: exit code $status, not 2"
  failed=1
fi
exit $failed
