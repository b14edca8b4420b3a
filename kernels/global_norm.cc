#include "kernels/global_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/global_norm_cuda.h"
#include "kernels/simd.h"

namespace titan {
namespace {

constexpr int64_t kPieceElements = 32 * 1024;

template <typename T>
TITAN_INLINE double SumOfSquares(const T* x, int64_t size) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) {
    const double value = static_cast<double>(static_cast<Accumulator<T>>(x[i]));
    sum += value * value;
  }
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

// tensors: not empty.
at::Tensor NormCuda(at::TensorList tensors) {
  std::vector<cuda::NormTensor> list;
  list.reserve(tensors.size());
  int64_t num_partials = 0;
  for (const at::Tensor& tensor : tensors) {
    list.push_back({.data = tensor.const_data_ptr(), .size = tensor.numel()});
    num_partials += cuda::NumNormPartials(tensor.numel());
  }
  const at::TensorOptions options = tensors[0].options().dtype(at::kDouble);
  const at::Tensor partials = at::empty({num_partials}, options);
  at::Tensor norm = at::empty({}, options);
  if constexpr (cuda::kHasKernels) {
    cuda::GlobalNorm(cuda::ElementOf(tensors[0]), list.data(), static_cast<int64_t>(list.size()),
                     partials.mutable_data_ptr<double>(), norm.mutable_data_ptr<double>(),
                     cuda::CurrentStream(tensors[0]));
  }
  return norm;
}

}  // namespace

at::Tensor GlobalNorm(at::TensorList tensors) {
  if (tensors.empty()) return at::scalar_tensor(0.0, at::kDouble);
  for (const at::Tensor& tensor : tensors) {
    TORCH_CHECK(tensor.is_contiguous(), "GlobalNorm: a tensor is not contiguous");
    TORCH_CHECK(tensor.scalar_type() == tensors[0].scalar_type() && tensor.device() == tensors[0].device(),
                "GlobalNorm: tensors of different dtypes or devices");
  }
  cuda::CheckDevice(tensors[0], "GlobalNorm");
  if (!tensors[0].is_cpu()) return NormCuda(tensors);
  double norm = 0;
  DispatchFloating(tensors[0].scalar_type(), "GlobalNorm", [&]<typename T>() { norm = NormCpu<T>(tensors); });
  return at::scalar_tensor(norm, at::kDouble);
}

std::optional<size_t> FirstNonFinite(at::TensorList tensors) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!at::isfinite(tensors[i]).all().item<bool>()) return i;
  }
  return std::nullopt;
}

}  // namespace titan
