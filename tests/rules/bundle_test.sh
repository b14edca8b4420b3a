#!/bin/bash
# bundle_test.sh RUN INSTALL DIGEST...: the same bundle as runfiles, as an archive, and as full and thin directories.
set -uo pipefail
run=$PWD/$1 install=$PWD/$2
digest=$(cat "${@: -1}")
tar=${install%.sh}.tar provenance=${install%.sh}.provenance.json
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
kilobytes=$(du -sk thin | cut -f1)
((kilobytes < 60 * 1024)) || fail "the thin bundle has $kilobytes KiB"

if "$install" --out full >output.txt 2>&1; then fail "install over a bundle"; fi
grep -q "exists" output.txt || fail "no reason: $(cat output.txt)"

for pattern in "$(sha256sum <"$tar" | cut -d' ' -f1)" "$digest" pkg:pypi/torch@ tests/rules/fake_trainer.cc \
  tests/rules/valid.jsonnet tests/rules/sizes.libsonnet tools/bundle/bundle.h titan/base/sha256.cc words.txt; do
  grep -qF "$pattern" "$provenance" || fail "the provenance lacks $pattern"
done
exit $failed
