#include "kernels/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <vector>

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

// The factors of the formula, computed in fp64 and rounded once.
template <typename T>
struct Factors {
  explicit Factors(const AdamWArguments& a)
      : gradient_scale(a.gradient_scale),
        decay(1 - a.lr * a.weight_decay),
        one_minus_beta1(1 - a.beta1),
        beta2(a.beta2),
        one_minus_beta2(1 - a.beta2),
        step_size(a.lr / (1 - std::pow(a.beta1, a.num_updates))),
        inverse_correction2(1 / std::sqrt(1 - std::pow(a.beta2, a.num_updates))),
        eps(a.eps) {}

  T gradient_scale, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_correction2, eps;
};

template <typename T>
TITAN_INLINE void UpdatePiece(T* __restrict p, const T* __restrict g, T* __restrict m, T* __restrict v, int64_t size,
                              const Factors<T>& f) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const T gradient = g[i] * f.gradient_scale;
    m[i] += f.one_minus_beta1 * (gradient - m[i]);
    v[i] = f.beta2 * v[i] + f.one_minus_beta2 * (gradient * gradient);
    p[i] = f.decay * p[i] - f.step_size * m[i] / (std::sqrt(v[i]) * f.inverse_correction2 + f.eps);
  }
}

template <typename T>
void StepCpu(const AdamWTensors& tensors, const AdamWArguments& arguments) {
  const Factors<T> factors(arguments);
  const std::vector<Piece> pieces = Pieces(tensors.parameters);
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    WithBestSimd([&]() TITAN_INLINE_LAMBDA {
      for (int64_t i = begin; i < end; ++i) {
        const Piece& piece = pieces[i];
        UpdatePiece<T>(tensors.parameters[piece.tensor].template mutable_data_ptr<T>() + piece.begin,
                       tensors.gradients[piece.tensor].template const_data_ptr<T>() + piece.begin,
                       tensors.exp_avg[piece.tensor].template mutable_data_ptr<T>() + piece.begin,
                       tensors.exp_avg_sq[piece.tensor].template mutable_data_ptr<T>() + piece.begin,
                       piece.end - piece.begin, factors);
      }
    });
  });
}

// ATen's own multi-tensor kernel; it computes the same formula in the same order. It wants the number of updates as a
// tensor on the device for each parameter; one tensor serves them all.
void StepCuda(const AdamWTensors& tensors, const AdamWArguments& a) {
  if (a.gradient_scale != 1) at::_foreach_mul_(tensors.gradients, a.gradient_scale);
  const at::Tensor count = at::full({}, static_cast<double>(a.num_updates),
                                    at::TensorOptions(tensors.parameters[0].device()).dtype(at::kFloat));
  const std::vector<at::Tensor> counts(tensors.parameters.size(), count);
  at::_fused_adamw_(tensors.parameters, tensors.gradients, tensors.exp_avg, tensors.exp_avg_sq, /*max_exp_avg_sqs=*/{},
                    counts, a.lr, a.beta1, a.beta2, a.weight_decay, a.eps, /*amsgrad=*/false, /*maximize=*/false);
}

}  // namespace

void AdamWStep(const AdamWTensors& tensors, const AdamWArguments& arguments) {
  const size_t count = tensors.parameters.size();
  TORCH_CHECK(
      tensors.gradients.size() == count && tensors.exp_avg.size() == count && tensors.exp_avg_sq.size() == count,
      "AdamWStep: lists of different length");
  if (count == 0) return;
  const auto dtype = tensors.parameters[0].scalar_type();
  for (const at::TensorList& list : {tensors.parameters, tensors.gradients, tensors.exp_avg, tensors.exp_avg_sq}) {
    for (size_t i = 0; i < count; ++i) {
      TORCH_CHECK(
          list[i].scalar_type() == dtype && list[i].is_contiguous() && list[i].sizes() == tensors.parameters[i].sizes(),
          "AdamWStep: tensor ", i, " differs in dtype or shape, or is not contiguous");
    }
  }
  if (tensors.parameters[0].is_cuda()) return StepCuda(tensors, arguments);
  if (dtype == at::kDouble) return StepCpu<double>(tensors, arguments);
  TORCH_CHECK(dtype == at::kFloat, "AdamWStep: parameters must be fp32 or fp64");
  StepCpu<float>(tensors, arguments);
}

}  // namespace titan
