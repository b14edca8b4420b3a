#!/bin/sh
# run [--torch_lib DIR] [FLAG...]: trains with the bundle that this file lies in. The flags are the trainer's.
#
# A thin bundle (one without lib/) needs the torch wheel that it was built with. It is found through python3, or in
# --torch_lib, the wheel's torch/lib folder. Only the search for libraries depends on it: the trainer then checks each
# against the MANIFEST. Nothing here needs Bazel, or a network.
set -eu
bundle=$(cd "$(dirname "$0")" && pwd)

torch_lib=
case "${1-}" in
  --torch_lib) torch_lib=${2:?run: --torch_lib needs a folder}; shift 2 ;;
  --torch_lib=*) torch_lib=${1#--torch_lib=}; shift ;;
esac

if [ ! -d "$bundle/lib" ]; then
  if [ -z "$torch_lib" ]; then
    # Without importing torch, which takes seconds.
    torch_lib=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' \
      2>/dev/null)/lib || torch_lib=
  fi
  if [ ! -e "$torch_lib/libtorch_cpu.so" ]; then
    echo "run: this bundle is thin, and there is no libtorch_cpu.so in ${torch_lib:-a torch that python3 knows}." >&2
    echo "run: name the torch/lib folder of the torch wheel with --torch_lib, or use the full bundle." >&2
    exit 2
  fi
  # The wheels that torch depends on lie beside it.
  libraries=$torch_lib
  for directory in "$torch_lib"/../../nvidia/*/lib; do
    if [ -d "$directory" ]; then libraries=$libraries:$directory; fi
  done
  LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export LD_LIBRARY_PATH
fi
exec "$bundle/bin/titan_trainer" --bundle "$bundle" "$@"
