#!/bin/bash
# Every rule of lint.sh must catch what it forbids, let pass what it does not, and obey a reasoned exception.
set -euo pipefail
source tools/format/lint.sh
cd "$TEST_TMPDIR"
mkdir -p titan/base kernels

expect_clean() { # FILE
  lint "$1" >out || { echo "unexpected: $(cat out)"; exit 1; }
}

expect_broken() { # FILE RULE
  if lint "$1" >out; then echo "$1 should break $2"; exit 1; fi
  [[ $(cat out) == *"[$2]" && $(wc -l <out) == 1 ]] || { echo "expected one report of $2, got: $(cat out)"; exit 1; }
}

printf '// About.\n#ifndef TITAN_BASE_FILE_H_\n#define TITAN_BASE_FILE_H_\n#endif\n' >titan/base/file.h
expect_clean titan/base/file.h
printf '#ifndef TITAN_KERNELS_ROPE_H_\n#endif\n' >kernels/rope.h
expect_clean kernels/rope.h
printf '#ifndef KERNELS_ROPE_H_\n#endif\n' >kernels/rope.h
expect_broken kernels/rope.h header_guard
printf '#pragma once\n' >kernels/rope.cc
expect_broken kernels/rope.cc pragma_once

printf '#include <ATen/core/Tensor.h>\n#include <torch/types.h>\n' >kernels/a.cc
expect_clean kernels/a.cc
printf '#include <torch/torch.h>\n' >kernels/a.cc
expect_broken kernels/a.cc torch_headers
printf '#include <torch/torch.h>  // lint: allow torch_headers because\n' >kernels/a.cc
expect_broken kernels/a.cc torch_headers
printf '#include <torch/torch.h>  // lint: allow torch_headers because it is their test\n' >kernels/a.cc
expect_clean kernels/a.cc

printf '// x\n%.0s' {1..600} >kernels/long.cc
expect_clean kernels/long.cc
echo '// x' >>kernels/long.cc
expect_broken kernels/long.cc file_length
echo '// lint: allow file_length because it is one table' >>kernels/long.cc
expect_clean kernels/long.cc
