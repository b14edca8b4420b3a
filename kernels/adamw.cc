#include "kernels/adamw.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/adamw_cuda.h"
#include "kernels/cuda.h"
#include "kernels/simd.h"

namespace titan {
namespace {

// A piece of one tensor, small enough to balance the threads and large enough to hide the bookkeeping.
struct Piece {
  size_t tensor;
  int64_t begin;
  int64_t end;
};

constexpr int64_t kPieceElements = 32 * 1024;

std::vector<Piece> Pieces(at::TensorList tensors) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t size = tensors[i].numel();
    for (int64_t begin = 0; begin < size; begin += kPieceElements) {
      pieces.push_back({i, begin, std::min(begin + kPieceElements, size)});
    }
  }
  return pieces;
}

cuda::AdamWFactors<double> FactorsOf(const AdamWArguments& a) {
  return {.gradient_scale = a.gradient_scale,
          .decay = 1 - a.lr * a.weight_decay,
          .one_minus_beta1 = 1 - a.beta1,
          .beta2 = a.beta2,
          .one_minus_beta2 = 1 - a.beta2,
          .step_size = a.lr / (1 - std::pow(a.beta1, a.num_updates)),
          .inverse_correction2 = 1 / std::sqrt(1 - std::pow(a.beta2, a.num_updates)),
          .eps = a.eps};
}

// S is the type of the averages.
template <typename T, typename S>
TITAN_INLINE void UpdatePiece(T* __restrict p, const T* __restrict g, S* __restrict m, S* __restrict v, int64_t size,
                              const cuda::AdamWFactors<T>& f) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const T gradient = g[i] * f.gradient_scale;
    T first = static_cast<T>(m[i]);
    first += f.one_minus_beta1 * (gradient - first);
    const T second = f.beta2 * static_cast<T>(v[i]) + f.one_minus_beta2 * (gradient * gradient);
    p[i] = f.decay * p[i] - f.step_size * first / (std::sqrt(second) * f.inverse_correction2 + f.eps);
    m[i] = static_cast<S>(first);
    v[i] = static_cast<S>(second);
  }
}

template <typename T>
TITAN_INLINE void CopyPiece(const T* __restrict p, c10::BFloat16* __restrict copy, int64_t size) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) copy[i] = static_cast<c10::BFloat16>(static_cast<float>(p[i]));
}

template <typename T, typename S>
void StepCpu(const AdamWTensors& tensors, const AdamWArguments& arguments) {
  const cuda::AdamWFactors<T> factors = FactorsOf(arguments).To<T>();
  const std::vector<Piece> pieces = Pieces(tensors.parameters);
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    WithBestSimd([&]() TITAN_INLINE_LAMBDA {
      for (int64_t i = begin; i < end; ++i) {
        const Piece& piece = pieces[i];
        T* const parameter = tensors.parameters[piece.tensor].template mutable_data_ptr<T>() + piece.begin;
        const int64_t size = piece.end - piece.begin;
        UpdatePiece<T, S>(parameter, tensors.gradients[piece.tensor].template const_data_ptr<T>() + piece.begin,
                          tensors.exp_avg[piece.tensor].template mutable_data_ptr<S>() + piece.begin,
                          tensors.exp_avg_sq[piece.tensor].template mutable_data_ptr<S>() + piece.begin, size, factors);
        if (tensors.copies.empty()) continue;
        CopyPiece<T>(parameter, tensors.copies[piece.tensor].template mutable_data_ptr<c10::BFloat16>() + piece.begin,
                     size);
      }
    });
  });
}

void StepCuda(const AdamWTensors& tensors, const AdamWArguments& arguments) {
  std::vector<cuda::AdamWTensor> list;
  list.reserve(tensors.parameters.size());
  for (size_t i = 0; i < tensors.parameters.size(); ++i) {
    list.push_back({.parameter = tensors.parameters[i].mutable_data_ptr(),
                    .gradient = tensors.gradients[i].const_data_ptr(),
                    .exp_avg = tensors.exp_avg[i].mutable_data_ptr(),
                    .exp_avg_sq = tensors.exp_avg_sq[i].mutable_data_ptr(),
                    .copy = tensors.copies.empty() ? nullptr : tensors.copies[i].mutable_data_ptr(),
                    .size = tensors.parameters[i].numel()});
  }
  if constexpr (cuda::kHasKernels) {
    cuda::AdamWStep(cuda::ElementOf(tensors.parameters[0]), cuda::ElementOf(tensors.exp_avg[0]), list.data(),
                    static_cast<int64_t>(list.size()), FactorsOf(arguments),
                    cuda::CurrentStream(tensors.parameters[0]));
  }
}

void CheckTensors(const AdamWTensors& tensors) {
  const size_t count = tensors.parameters.size();
  TORCH_CHECK(tensors.gradients.size() == count && tensors.exp_avg.size() == count &&
                  tensors.exp_avg_sq.size() == count && (tensors.copies.empty() || tensors.copies.size() == count),
              "AdamWStep: lists of different length");
  if (count == 0) return;
  const auto dtype = tensors.parameters[0].scalar_type();
  const auto check = [&](at::TensorList list, at::ScalarType expected) {
    for (size_t i = 0; i < list.size(); ++i) {
      TORCH_CHECK(list[i].scalar_type() == expected && list[i].is_contiguous() &&
                      list[i].sizes() == tensors.parameters[i].sizes() &&
                      list[i].device() == tensors.parameters[0].device(),
                  "AdamWStep: tensor ", i, " differs in dtype, shape or device, or is not contiguous");
    }
  };
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble, "AdamWStep: parameters must be fp32 or fp64");
  for (const at::TensorList& list : {tensors.parameters, tensors.gradients}) check(list, dtype);
  const auto average = tensors.exp_avg[0].scalar_type();
  TORCH_CHECK(average == dtype || (dtype == at::kFloat && average == at::kBFloat16),
              "AdamWStep: averages must have the dtype of the parameters, or be bf16 with fp32 parameters");
  for (const at::TensorList& list : {tensors.exp_avg, tensors.exp_avg_sq}) check(list, average);
  check(tensors.copies, at::kBFloat16);
}

}  // namespace

void AdamWStep(const AdamWTensors& tensors, const AdamWArguments& arguments) {
  CheckTensors(tensors);
  if (tensors.parameters.empty()) return;
  const at::Tensor& first = tensors.parameters[0];
  cuda::CheckDevice(first, "AdamWStep");
  if (!first.is_cpu()) return StepCuda(tensors, arguments);
  if (tensors.exp_avg[0].scalar_type() == at::kBFloat16) return StepCpu<float, c10::BFloat16>(tensors, arguments);
  first.scalar_type() == at::kDouble ? StepCpu<double, double>(tensors, arguments)
                                     : StepCpu<float, float>(tensors, arguments);
}

}  // namespace titan
