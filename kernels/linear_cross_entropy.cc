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
constexpr int64_t kChunkBytesDevice = int64_t{512} << 20;
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

// The loss of one row. With kGradient `logits` becomes softmax - onehot(label), or zeros for an ignored row.
template <typename T, bool kGradient>
TITAN_INLINE Accumulator<T> RowLoss(T* __restrict logits, int64_t label, int64_t vocab) {
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
    const A scale = A(1) / sum;
    const A at_label = Exp(target - largest) * scale - A(1);
#pragma omp simd
    for (int64_t i = 0; i < vocab; ++i) logits[i] = static_cast<T>(Exp(static_cast<A>(logits[i]) - largest) * scale);
    logits[label] = static_cast<T>(at_label);
  }
  return largest + std::log(sum) - target;
}

at::Tensor ChunkLossCpu(at::Tensor& logits, const at::Tensor& labels, bool gradient) {
  const int64_t vocab = logits.size(1);
  at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kDouble));
  const int64_t* label = labels.const_data_ptr<int64_t>();
  double* loss = losses.mutable_data_ptr<double>();
  DispatchFloating(logits.scalar_type(), "linear_cross_entropy", [&]<typename T>() {
    T* data = logits.mutable_data_ptr<T>();
    at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
      WithBestSimd([&]() TITAN_INLINE_LAMBDA {
        for (int64_t row = begin; row < end; ++row) {
          loss[row] = gradient ? RowLoss<T, true>(data + row * vocab, label[row], vocab)
                               : RowLoss<T, false>(data + row * vocab, label[row], vocab);
        }
      });
    });
  });
  return losses;
}

static_assert(cuda::kCrossEntropyIgnored == kIgnoredLabel);

at::Tensor ChunkLossCuda(at::Tensor& logits, const at::Tensor& labels, bool gradient) {
  at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kDouble));
  if constexpr (cuda::kHasKernels) {
    cuda::CrossEntropyRows(cuda::ElementOf(logits), logits.mutable_data_ptr(), labels.const_data_ptr<int64_t>(),
                           logits.size(0), logits.size(1), gradient, losses.mutable_data_ptr<double>(),
                           cuda::CurrentStream(logits));
  }
  return losses;
}

// Losses of a chunk's rows; `logits` (rows, V) becomes their gradient when `gradient`.
at::Tensor ChunkLoss(at::Tensor& logits, const at::Tensor& labels, bool gradient) {
  return (logits.is_cpu() ? ChunkLossCpu : ChunkLossCuda)(logits, labels, gradient);
}

// dlogits weight, dlogits (rows, V), weight (V, D), into `out` (rows, D). A CPU's float32 product may add the V terms
// one by one, as MKL's does on AMD; in parts, its error does not grow with the vocabulary.
void HiddenGradient(const at::Tensor& dlogits, const at::Tensor& weight, at::Tensor& out) {
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
  at::Tensor loss, dhidden, dweight;
};

void CheckLabels(const at::Tensor& labels, int64_t vocab) {
  const int64_t* label = labels.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < labels.numel(); ++row) {
    TORCH_CHECK_INDEX(label[row] == kIgnoredLabel || (label[row] >= 0 && label[row] < vocab),
                      "linear_cross_entropy: label ", label[row], " of row ", row, " is neither in [0, ", vocab,
                      ") nor ", kIgnoredLabel);
  }
}

Gradients ForwardChunks(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels, bool gradient) {
  const int64_t rows = hidden.size(0);
  const int64_t chunk_rows = ChunkRows(hidden, weight);
  const auto accumulator = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  if (hidden.is_cpu()) CheckLabels(labels, weight.size(0));
  Gradients out;
  at::Tensor total = at::zeros({}, hidden.options().dtype(at::kDouble));
  // The weight's gradient is a sum over chunks, in the accumulation dtype.
  if (gradient) {
    out.dhidden = at::empty_like(hidden);
    out.dweight = rows == 0 ? at::zeros(weight.sizes(), weight.options()) : at::Tensor();
  }
  for (int64_t begin = 0; begin < rows; begin += chunk_rows) {
    const int64_t count = std::min(chunk_rows, rows - begin);
    const at::Tensor h = hidden.narrow(0, begin, count);  // (count, D)
    at::Tensor logits = at::mm(h, weight.t());            // (count, V)
    const at::Tensor y = labels.narrow(0, begin, count);
    total += ChunkLoss(logits, y, gradient).sum();
    if (!gradient) continue;
    at::Tensor dh = out.dhidden.narrow(0, begin, count);
    HiddenGradient(logits, weight, dh);
    if (count == rows) {
      out.dweight = at::mm(logits.t(), h);
    } else {
      AddWeightGradient(logits, h, accumulator, out.dweight);
    }
  }
  out.loss = total.to(accumulator);
  if (gradient) out.dweight = out.dweight.to(weight.scalar_type());
  return out;
}

// labels (rows), contiguous.
at::Tensor RecordLoss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels) {
  // Scaled in place and handed on by backward, hence usable once.
  const auto kept = std::make_shared<Gradients>();
  const auto forward = [&](const TensorVector& in) -> Recorded {
    *kept = ForwardChunks(in[0].contiguous(), in[1].contiguous(), labels, /*gradient=*/true);
    return {.outputs = {std::exchange(kept->loss, at::Tensor())}, .saved = {}};
  };
  const auto backward = [kept](const TensorVector&, const TensorVector& gradients) -> TensorVector {
    TORCH_CHECK(kept->dhidden.defined(), "linear_cross_entropy: backward can run only once");
    const Gradients once = std::exchange(*kept, Gradients());
    return {once.dhidden.mul_(gradients[0]), once.dweight.mul_(gradients[0])};
  };
  return ApplyFunction({hidden, weight}, forward, backward)[0];
}

}  // namespace

at::Tensor LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels) {
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
  return RecordLoss(hidden, weight, labels.contiguous());
}

}  // namespace titan
