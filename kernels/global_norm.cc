#include "kernels/global_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/simd.h"

namespace titan {
namespace {

constexpr int64_t kPieceElements = 32 * 1024;

template <typename T>
TITAN_INLINE double SumOfSquares(const T* x, int64_t size) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

template <typename T>
double NormCpu(at::TensorList tensors) {
  struct Piece {
    const T* data;
    int64_t size;
  };
  std::vector<Piece> pieces;
  for (const at::Tensor& tensor : tensors) {
    const T* data = tensor.template const_data_ptr<T>();
    for (int64_t begin = 0; begin < tensor.numel(); begin += kPieceElements) {
      pieces.push_back({data + begin, std::min(kPieceElements, tensor.numel() - begin)});
    }
  }
  std::vector<double> sums(pieces.size());
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    WithBestSimd([&]() TITAN_INLINE_LAMBDA {
      for (int64_t i = begin; i < end; ++i) sums[i] = SumOfSquares<T>(pieces[i].data, pieces[i].size);
    });
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

}  // namespace

at::Tensor GlobalNorm(at::TensorList tensors) {
  if (tensors.empty()) return at::scalar_tensor(0.0, at::kDouble);
  for (const at::Tensor& tensor : tensors)
    TORCH_CHECK(tensor.is_contiguous(), "GlobalNorm: a tensor is not contiguous");
  if (tensors[0].is_cuda()) {
    const std::vector<at::Tensor> norms = at::_foreach_norm(tensors, /*ord=*/2, at::kDouble);
    return at::linalg_vector_norm(at::stack(norms));
  }
  const bool fp64 = tensors[0].scalar_type() == at::kDouble;
  return at::scalar_tensor(fp64 ? NormCpu<double>(tensors) : NormCpu<float>(tensors), at::kDouble);
}

std::optional<size_t> FirstNonFinite(at::TensorList tensors) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!at::isfinite(tensors[i]).all().item<bool>()) return i;
  }
  return std::nullopt;
}

}  // namespace titan
