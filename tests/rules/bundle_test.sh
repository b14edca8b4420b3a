#!/bin/bash
# The same bundle as a tree in runfiles, as an archive, and as full and thin directories.
set -uo pipefail
outputs=$PWD/tests/rules
run=$outputs/valid.sh install=$outputs/valid.bundle.sh
tar=$outputs/valid.bundle.tar provenance=$outputs/valid.bundle.provenance.json
digest=$(cat "$outputs/valid.digest.txt")
cd "$TEST_TMPDIR"
failed=0

fail() {
  echo "FAILED: $1"
  failed=1
}

# starts WHAT COMMAND...: the fake trainer finds every file as the MANIFEST says, and has the right digest.
starts() {
  local what=$1
  shift
  "$@" --set a=b >output.txt 2>&1 || fail "$what: $(cat output.txt)"
  grep -qx "digest=$digest" output.txt || fail "$what: another digest than $digest: $(cat output.txt)"
  grep -qx "argument=a=b" output.txt || fail "$what: arguments are lost: $(cat output.txt)"
}

starts "bazel run" "$run"

"$install" --out full >/dev/null || fail "install"
RUNFILES_DIR= starts "full bundle" full/run

grep -q " files/schedule.csv$" full/MANIFEST || fail "the schedule is not in the bundle"

mkdir unpacked
tar -xf "$tar" -C unpacked || fail "tar -x"
diff -r full unpacked || fail "the archive is not what install writes"
starts "archive" unpacked/run
if tar -tvf "$tar" --full-time | grep -v '0/0.*1970-01-01 00:00:00'; then fail "the archive tells its time or user"; fi
tar -tf "$tar" | LC_ALL=C sort -c || fail "the archive is not sorted"

"$install" --thin --out thin >/dev/null || fail "install --thin"
diff full/MANIFEST thin/MANIFEST || fail "a thin bundle has the full one's MANIFEST"
diff <(cd full && find . -type f ! -path './lib/*' | sort) <(cd thin && find . -type f | sort) ||
  fail "a thin bundle is not the full one without lib/"
mkdir -p wheel/torch/lib
cp full/lib/libtorch_cpu.so wheel/torch/lib
starts "thin bundle" thin/run --torch_lib wheel/torch/lib

# Another build of a library works, but is not what the digest stands for.
printf x >>wheel/torch/lib/libtorch_cpu.so
if thin/run --torch_lib wheel/torch/lib >output.txt 2>&1; then fail "a changed library was accepted"; fi
grep -q "lib/libtorch_cpu.so: .*wheel/torch/lib/libtorch_cpu.so has" output.txt || fail "no reason: $(cat output.txt)"

if "$install" --out full >output.txt 2>&1; then fail "install over a bundle"; fi
grep -q "exists" output.txt || fail "no reason: $(cat output.txt)"

for pattern in "$(sha256sum <"$tar" | cut -d' ' -f1)" "$digest" pkg:pypi/torch@ tests/rules/fake_trainer.cc \
  tests/rules/valid.jsonnet tests/rules/sizes.libsonnet tools/bundle/bundle.h titan/base/sha256.cc \
  tests/rules/words.txt tests/rules/schedule.csv tests/rules/fake_library.cc; do
  grep -qF "$pattern" "$provenance" || fail "the provenance lacks $pattern"
done
exit $failed
