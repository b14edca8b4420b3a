// Products of float8 matrices by cuBLASLt, which can add to what is there, as ATen's cannot.

#ifndef TITAN_KERNELS_FLOAT8_MATMUL_CUDA_H_
#define TITAN_KERNELS_FLOAT8_MATMUL_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"
#include "kernels/float8_cuda.h"

namespace titan::cuda {

struct Float8Factor {
  const void* values;  // (rows, K), row-major
  Float8Kind kind;
  const float* inverse_scale;  // one, or one for each row
};

struct Float8MatmulArguments {
  int64_t m, n, k;
  Float8Factor a, b;  // (M, K), (N, K)
  bool has_row_scales;
  void* out;  // (M, N)
  Element out_element;
  bool adds;  // out += a b^T instead of out = a b^T
  bool fast_accumulation;
};

// False, and nothing is done, if cuBLASLt has no kernel for it. Throws c10::Error if it fails.
bool Float8Matmul(const Float8MatmulArguments& arguments, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_FLOAT8_MATMUL_CUDA_H_
