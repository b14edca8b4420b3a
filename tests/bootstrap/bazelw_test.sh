#!/bin/bash
# Runs bazelw on machines that lack something: folders of stand-ins for PATH.
set -euo pipefail
checkout=$TEST_TMPDIR/checkout
mkdir -p "$checkout/sub"
cp bazelw "$checkout/bazelw"

# A machine with everything. Its Bazel prints its directory, variable and arguments; its apt-get installs nothing.
machine=$TEST_TMPDIR/machine
mkdir "$machine"
for tool in bash basename cat command cut dirname env gcc g++ as ld mktemp mv rm sha256sum stat tail tr; do
  if path=$(type -P "$tool"); then ln -s "$path" "$machine/$tool"; fi
done
stand_in() { # NAME LINE...
  rm -f "$machine/$1" # Never write through a link to the real tool.
  printf '%s\n' '#!/bin/bash' "${@:2}" >"$machine/$1"
  chmod +x "$machine/$1"
}
bazel_says='if [[ $1 == --version ]]; then echo "bazel ${VERSION}"; else echo "$PWD|${USE_BAZEL_VERSION:-}|$*"; fi'
stand_in bazel "VERSION=4.2.3" "$bazel_says"
stand_in python3 'exit 0'
stand_in id 'echo 1000'
stand_in apt-get 'echo "E: no such package" >&2; exit 100'

expect() { # EXIT_STATUS EXPECTED_PART_OF_OUTPUT COMMAND...
  local status=0 output
  output=$(PATH=$machine "${@:3}" 2>&1) || status=$?
  [[ $status == "$1" && $output == *"$2"* ]] || {
    echo "expected '$2' and status $1, got '$output' and status $status"
    exit 1
  }
}

cd "$checkout"
expect 0 "$checkout|4.2.3|run //x -- --steps 'a b'" ./bazelw run //x -- --steps "'a b'"
cd sub
expect 0 "$checkout/sub|" ../bazelw info
cd "$TEST_TMPDIR"
expect 0 "$checkout|" checkout/bazelw info
cd "$checkout"

# The digest of the toolchain changes with the toolchain, and the file only then.
before=$(cat .host.bazelrc)
[[ $before == "build --action_env=TITAN_HOST_TOOLCHAIN="* ]]
touch -d 2001-01-01 .host.bazelrc
expect 0 "" ./bazelw info
[[ $(stat -c %Y .host.bazelrc) == $(date -d 2001-01-01 +%s) ]] || { echo "rewritten without need"; exit 1; }
stand_in gcc 'if [[ $1 == --version ]]; then echo gcc 99; fi'
expect 0 "" ./bazelw info
[[ $(cat .host.bazelrc) != "$before" ]] || { echo "another compiler, the same digest"; exit 1; }

# Bazel as Debian packages it takes no version; another major version will not do.
stand_in bazel 'VERSION="no_version"' "$bazel_says"
expect 0 "$checkout||info" ./bazelw info
stand_in bazel 'VERSION="6.1.0"' "$bazel_says"
expect 1 "is 'bazel 6.1.0', and Bazel 4.2.3 is needed" ./bazelw info

# Something is missing.
rm "$machine/bazel" "$machine/g++"
stand_in python3 'exit 1'
expect 1 "Run: sudo apt-get install --no-install-recommends bazel-bootstrap g++ python3-pip" ./bazelw info
stand_in id 'echo 0'
expect 1 "E: no such package" ./bazelw info
expect 1 "cannot install bazel-bootstrap g++ python3-pip" ./bazelw info
rm "$machine/apt-get"
expect 1 "missing on this machine: bazel-bootstrap g++ python3-pip" ./bazelw info
