#!/bin/bash
# Runs .ci/run with a stand-in for bazelw that prints what Bazel prints: the last line must count the tests.
set -euo pipefail
mkdir -p "$TEST_TMPDIR/checkout/.ci"
cp .ci/run "$TEST_TMPDIR/checkout/.ci/run"
cd "$TEST_TMPDIR/checkout"

expect() { # EXIT_STATUS_OF_BAZEL EXPECTED_EXIT_STATUS EXPECTED_LAST_LINE; Bazel's output on standard input
  local status=0
  cat >output
  printf '#!/bin/sh\ncat output\nexit %d\n' "$1" >bazelw
  chmod +x bazelw
  .ci/run >log || status=$?
  [[ $(tail -n 1 log) == "$3" && $status == "$2" ]] || {
    echo "expected '$3' and status $2, got '$(tail -n 1 log)' and status $status"
    exit 1
  }
}

expect 0 0 '2 passed, 0 failed' <<'END'
//kernels:rope_test                                              PASSED in 0.3s
//titan/base:sha256_test                                (cached) PASSED in 0.1s
INFO: Build completed successfully, 12 total actions
END
expect 0 0 '1 passed, 0 failed, 1 skipped' <<'END'
//kernels:rope_test                                              PASSED in 0.3s
//tests/deps:cuda_test                                          SKIPPED
END
expect 3 3 '1 passed, 2 failed' <<'END'
//kernels:rope_test                                              PASSED in 0.3s
//kernels:adamw_test                                             FAILED in 0.3s
  /somewhere/test.log
//kernels:swiglu_test                                           TIMEOUT in 60.1s
  /somewhere/test.log
END
expect 1 1 '1 passed, 2 failed' <<'END'
//kernels:rope_test                                              PASSED in 0.3s
//kernels:adamw_test                                    FAILED TO BUILD
//kernels:swiglu_test                                         NO STATUS
END
expect 1 1 '1 passed, 1 failed' <<'END'
//kernels:rope_test                                              PASSED in 0.3s
ERROR: command succeeded, but not all targets were analyzed
END
expect 1 1 '0 passed, 1 failed' <<'END'
ERROR: no such package '@torch_cpu//': Cannot fetch torch
END
expect 0 1 '0 passed, 0 failed' <<'END'
INFO: nothing that looks like a summary
END
