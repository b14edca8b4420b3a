"""Compiler flags of CPU kernels."""

# -O3 vectorises loops of unknown length, which -O2 does not; the others let it: sqrt and comparisons need no errno and no
# traps. OpenMP allows sums to be reordered where the source says so with `#pragma omp simd`, and at::parallel_for, an
# inline function, is serial in files that are compiled without it. Its runtime is LibTorch's.
KERNEL_COPTS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
]

# What a machine must have, by the names of kernels/simd.h; AVX2 and FMA are part of the last.
SIMD_COPTS = {
    "baseline": [],
    "avx2": [
        "-mavx2",
        "-mfma",
    ],
    "avx512": [
        "-mavx2",
        "-mfma",
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
    ],
}
