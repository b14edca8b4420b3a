#include "kernels/linear_cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "kernels/cuda.h"
#include "kernels/function.h"
#include "kernels/linear_cross_entropy_cuda.h"
#include "kernels/simd.h"

namespace titan {
namespace {

// Bytes of one chunk of logits: large enough for the matrix products, small beside everything else.
constexpr int64_t kChunkBytesCpu = int64_t{8} << 20;
constexpr int64_t kChunkBytesDevice = int64_t{1} << 30;
constexpr int64_t kMinChunkRows = 128;

int64_t ChunkRows(const at::Tensor& hidden, const at::Tensor& weight) {
  const int64_t row_bytes = std::max<int64_t>(1, weight.size(0) * hidden.element_size());
  const int64_t budget = hidden.is_cpu() ? kChunkBytesCpu : kChunkBytesDevice;
  return std::max(kMinChunkRows, budget / row_bytes);
}

// Of exp(logit - largest). In parts, so that the error does not grow with the vocabulary.
template <typename T>
TITAN_INLINE Accumulator<T> SumOfExponentials(const T* __restrict logits, int64_t vocab, Accumulator<T> largest) {
  using A = Accumulator<T>;
  constexpr int64_t kPart = 256;
  double sum = 0;
  for (int64_t begin = 0; begin < vocab; begin += kPart) {
    const int64_t end = std::min(vocab, begin + kPart);
    A part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = begin; i < end; ++i) part += Exp(static_cast<A>(logits[i]) - largest);
    sum += part;
  }
  return static_cast<A>(sum);
}

// The loss of one row. With kGradient `logits` becomes gradient_scale (softmax - onehot(label)), or zeros for an
// ignored row.
template <typename T, bool kGradient>
TITAN_INLINE Accumulator<T> RowLoss(T* __restrict logits, int64_t label, int64_t vocab, Accumulator<T> gradient_scale) {
  using A = Accumulator<T>;
  if (label == kIgnoredLabel) {
    if constexpr (kGradient) std::fill(logits, logits + vocab, T(0));
    return 0;
  }
  A largest = static_cast<A>(logits[0]);
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < vocab; ++i) {
    const A value = static_cast<A>(logits[i]);
    largest = value > largest ? value : largest;
  }
  const A target = static_cast<A>(logits[label]);
  const A sum = SumOfExponentials(logits, vocab, largest);
  if constexpr (kGradient) {
    const A scale = gradient_scale / sum;
    const A at_label = Exp(target - largest) * scale - gradient_scale;
#pragma omp simd
    for (int64_t i = 0; i < vocab; ++i) logits[i] = static_cast<T>(Exp(static_cast<A>(logits[i]) - largest) * scale);
    logits[label] = static_cast<T>(at_label);
  }
  return largest + std::log(sum) - target;
}

at::Tensor ChunkLossCpu(at::Tensor& logits, const at::Tensor& labels, bool gradient, const at::Tensor& scale) {
  const int64_t vocab = logits.size(1);
  at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kDouble));
  const int64_t* label = labels.const_data_ptr<int64_t>();
  double* loss = losses.mutable_data_ptr<double>();
  DispatchFloating(logits.scalar_type(), "linear_cross_entropy", [&]<typename T>() {
    const auto factor = static_cast<Accumulator<T>>(scale.defined() ? *scale.const_data_ptr<double>() : 1);
    T* data = logits.mutable_data_ptr<T>();
    at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
      WithBestSimd([&]() TITAN_INLINE_LAMBDA {
        for (int64_t row = begin; row < end; ++row) {
          loss[row] = gradient ? RowLoss<T, true>(data + row * vocab, label[row], vocab, factor)
                               : RowLoss<T, false>(data + row * vocab, label[row], vocab, factor);
        }
      });
    });
  });
  return losses;
}

static_assert(cuda::kCrossEntropyIgnored == kIgnoredLabel);

at::Tensor ChunkLossCuda(at::Tensor& logits, const at::Tensor& labels, bool gradient, const at::Tensor& scale) {
  at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kDouble));
  if constexpr (cuda::kHasKernels) {
    cuda::CrossEntropyRows(cuda::ElementOf(logits), logits.mutable_data_ptr(), labels.const_data_ptr<int64_t>(),
                           logits.size(0), logits.size(1), gradient,
                           scale.defined() ? scale.const_data_ptr<double>() : nullptr,
                           losses.mutable_data_ptr<double>(), cuda::CurrentStream(logits));
  }
  return losses;
}

// Losses of a chunk's rows; `logits` (rows, V) becomes their gradient, times `scale` where there is one, when
// `gradient`.
at::Tensor ChunkLoss(at::Tensor& logits, const at::Tensor& labels, bool gradient, const at::Tensor& scale) {
  return (logits.is_cpu() ? ChunkLossCpu : ChunkLossCuda)(logits, labels, gradient, scale);
}

// Adds dlogits^T h, dlogits (rows, V), h (rows, D), to `sum` (V, D), which the first of several chunks creates in the
// accumulation dtype.
void AddWeightGradient(const at::Tensor& dlogits, const at::Tensor& h, at::ScalarType accumulator, at::Tensor& sum) {
  const at::Tensor dlogits_t = dlogits.t();
  if (h.scalar_type() == accumulator) {
    sum = sum.defined() ? sum.addmm_(dlogits_t, h) : at::mm(dlogits_t, h);
  } else if (h.is_cuda()) {  // where LibTorch has products that are not rounded to h's dtype
    sum = sum.defined() ? at::addmm_out(sum, sum, dlogits_t, h, accumulator) : at::mm(dlogits_t, h, accumulator);
  } else {
    const at::Tensor product = at::mm(dlogits_t, h);
    sum = sum.defined() ? sum.add_(product) : product.to(accumulator);
  }
}

struct Gradients {
  at::Tensor loss, dhidden;
  at::Tensor dweight;  // undefined where it went to a LossWeightGradient
};

void CheckLabels(const at::Tensor& labels, int64_t vocab) {
  const int64_t* label = labels.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < labels.numel(); ++row) {
    TORCH_CHECK_INDEX(label[row] == kIgnoredLabel || (label[row] >= 0 && label[row] < vocab),
                      "linear_cross_entropy: label ", label[row], " of row ", row, " is neither in [0, ", vocab,
                      ") nor ", kIgnoredLabel);
  }
}

Gradients ForwardChunks(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels, bool gradient,
                        const LossWeightGradient* weight_gradient = nullptr) {
  const int64_t rows = hidden.size(0);
  const int64_t chunk_rows = ChunkRows(hidden, weight);
  const auto accumulator = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  if (hidden.is_cpu()) CheckLabels(labels, weight.size(0));
  Gradients out;
  at::Tensor total = at::zeros({}, hidden.options().dtype(at::kDouble));
  const at::Tensor scale = weight_gradient != nullptr ? weight_gradient->scale.to(at::kDouble) : at::Tensor();
  const auto add = [&](const at::Tensor& h, const at::Tensor& dlogits, bool is_only) {
    if (weight_gradient != nullptr) return weight_gradient->add(h, dlogits);
    if (is_only) {
      out.dweight = at::mm(dlogits.t(), h);
    } else {  // a sum over chunks, in the accumulation dtype
      AddWeightGradient(dlogits, h, accumulator, out.dweight);
    }
  };
  if (gradient) {
    out.dhidden = at::empty_like(hidden);
    if (rows == 0) add(hidden, at::empty({0, weight.size(0)}, hidden.options()), /*is_only=*/true);
  }
  for (int64_t begin = 0; begin < rows; begin += chunk_rows) {
    const int64_t count = std::min(chunk_rows, rows - begin);
    const at::Tensor h = hidden.narrow(0, begin, count);  // (count, D)
    at::Tensor logits = at::mm(h, weight.t());            // (count, V)
    const at::Tensor y = labels.narrow(0, begin, count);
    total += ChunkLoss(logits, y, gradient, scale).sum();
    if (!gradient) continue;
    HiddenGradient(logits, weight, out.dhidden.narrow(0, begin, count));
    add(h, logits, /*is_only=*/count == rows);
  }
  out.loss = total.to(accumulator);
  if (out.dweight.defined()) out.dweight = out.dweight.to(weight.scalar_type());
  return out;
}

// labels (rows), contiguous.
at::Tensor RecordLoss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                      const LossWeightGradient* weight_gradient) {
  // Scaled in place and handed on by backward, hence usable once.
  const auto kept = std::make_shared<Gradients>();
  const auto forward = [&](const TensorVector& in) -> Recorded {
    *kept = ForwardChunks(in[0].contiguous(), in[1].contiguous(), labels, /*gradient=*/true, weight_gradient);
    return {.outputs = {std::exchange(kept->loss, at::Tensor())}, .saved = {}};
  };
  const auto backward = [kept](const TensorVector&, const TensorVector& gradients) -> TensorVector {
    TORCH_CHECK(kept->dhidden.defined(), "linear_cross_entropy: backward can run only once");
    const Gradients once = std::exchange(*kept, Gradients());
    if (!once.dweight.defined()) return {once.dhidden, at::Tensor()};
    return {once.dhidden.mul_(gradients[0]), once.dweight.mul_(gradients[0])};
  };
  return ApplyFunction({hidden, weight}, forward, backward)[0];
}

}  // namespace

void HiddenGradient(const at::Tensor& dlogits, const at::Tensor& weight, at::Tensor out) {
  // As many terms as a float32 sum one by one, which MKL's is on AMD, takes without harm.
  constexpr int64_t kPart = 2048;
  const int64_t vocab = weight.size(0);
  if (!out.is_cpu() || out.scalar_type() != at::kFloat || vocab <= kPart) {
    at::mm_out(out, dlogits, weight);
    return;
  }
  out.zero_();
  for (int64_t begin = 0; begin < vocab; begin += kPart) {
    const int64_t size = std::min(kPart, vocab - begin);
    out += at::mm(dlogits.narrow(1, begin, size), weight.narrow(0, begin, size));
  }
}

at::Tensor LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                              const LossWeightGradient* weight_gradient) {
  TORCH_CHECK(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1),
              "linear_cross_entropy: hidden ", hidden.sizes(), " does not fit weight ", weight.sizes());
  TORCH_CHECK(labels.dim() == 1 && labels.size(0) == hidden.size(0) && labels.scalar_type() == at::kLong,
              "linear_cross_entropy: labels must be int64 of shape (", hidden.size(0), "), got ", labels.scalar_type(),
              " ", labels.sizes());
  TORCH_CHECK(weight.device() == hidden.device() && labels.device() == hidden.device(),
              "linear_cross_entropy: hidden on ", hidden.device(), ", weight on ", weight.device(), ", labels on ",
              labels.device());
  cuda::CheckDevice(hidden, "linear_cross_entropy");
  const bool gradient = c10::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad());
  if (!gradient) return ForwardChunks(hidden.contiguous(), weight.contiguous(), labels.contiguous(), false).loss;
  return RecordLoss(hidden, weight, labels.contiguous(), weight_gradient);
}

}  // namespace titan
