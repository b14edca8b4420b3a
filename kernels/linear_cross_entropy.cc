#include "kernels/linear_cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "kernels/function.h"
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
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < vocab; ++i) sum += Exp(static_cast<A>(logits[i]) - largest);
  if constexpr (kGradient) {
    const A scale = A(1) / sum;
    const A at_label = Exp(target - largest) * scale - A(1);
#pragma omp simd
    for (int64_t i = 0; i < vocab; ++i) logits[i] = static_cast<T>(Exp(static_cast<A>(logits[i]) - largest) * scale);
    logits[label] = static_cast<T>(at_label);
  }
  return largest + std::log(sum) - target;
}

// Losses of a chunk's rows; `logits` (rows, V) becomes their gradient when `gradient`.
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

// The same from ATen operators, for any device.
at::Tensor ChunkLossComposite(at::Tensor& logits, const at::Tensor& labels, bool gradient) {
  const at::Tensor wide = logits.to(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor valid = labels.ne(kIgnoredLabel);  // (rows)
  const at::Tensor index = at::where(valid, labels, at::scalar_tensor(0, labels.options())).unsqueeze(1);
  const at::Tensor normalizer = at::logsumexp(wide, {1}, /*keepdim=*/true);  // (rows, 1)
  const at::Tensor losses = (normalizer - at::gather(wide, 1, index)).squeeze(1) * valid;
  if (gradient) {
    at::Tensor softmax = at::exp(wide - normalizer);
    softmax.scatter_add_(1, index, at::full_like(normalizer, -1));
    logits = (softmax * valid.unsqueeze(1)).to(logits.scalar_type());
  }
  return losses.to(at::kDouble);
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
    total += (hidden.is_cpu() ? ChunkLossCpu(logits, y, gradient) : ChunkLossComposite(logits, y, gradient)).sum();
    if (!gradient) continue;
    at::Tensor dh = out.dhidden.narrow(0, begin, count);
    at::mm_out(dh, logits, weight);
    if (!out.dweight.defined()) {
      out.dweight = at::mm(logits.t(), h);  // (V, D)
      if (count < rows) out.dweight = out.dweight.to(accumulator);
    } else if (hidden.scalar_type() == accumulator) {
      out.dweight.addmm_(logits.t(), h);
    } else {
      out.dweight.add_(at::mm(logits.t(), h));
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
  const bool gradient = c10::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad());
  if (!gradient) return ForwardChunks(hidden.contiguous(), weight.contiguous(), labels.contiguous(), false).loss;
  return RecordLoss(hidden, weight, labels.contiguous());
}

}  // namespace titan
