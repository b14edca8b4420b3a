// CUDA kernels at the sizes of Llama 3 8B beside ATen's operators and the bandwidth of a copy, all in one run.
//
//   cuda_benchmark            prints one line per kernel: microseconds, GB/s (TFLOP/s), share of the copy's GB/s

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/float8.h"
#include "kernels/global_norm.h"
#include "kernels/linear_cross_entropy.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace titan {
namespace {

using Tensors = std::vector<at::Tensor>;
using Function = std::function<at::Tensor(const Tensors& inputs)>;

constexpr int64_t kTokens = 8192, kDim = 4096, kFfnDim = 14336, kVocab = 128256;

const at::TensorOptions kBf16 = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
const at::TensorOptions kFp32 = at::TensorOptions(at::kCUDA).dtype(at::kFloat);

void Synchronize() { c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(0); }

// Mean seconds of one call, of many in a row.
double Seconds(const std::function<void()>& call) {
  constexpr int kWarmup = 5, kRuns = 40;
  for (int i = 0; i < kWarmup; ++i) call();
  Synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kRuns; ++i) call();
  Synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kRuns;
}

class Table {
 public:
  Table() {
    const at::Tensor from = at::randn({512 << 20}, kBf16), to = at::empty_like(from);  // 1 GiB each
    copy_rate_ = 2.0 * static_cast<double>(from.nbytes()) / Seconds([&] { to.copy_(from); });
    std::printf("copy of 1 GiB: %.0f GB/s read and written\n\n", copy_rate_ * 1e-9);
    std::printf("| kernel | ours | GB/s | of the copy | ATen | ours is faster by |\n|---|---|---|---|---|---|\n");
  }

  // `bytes`: what must at least be read and written; 0 where arithmetic counts.
  void Row(const std::string& name, double bytes, const std::function<void()>& ours,
           const std::function<void()>& aten) {
    const double a = Seconds(ours), b = Seconds(aten);
    std::printf("| %s | %.1f us | ", name.c_str(), a * 1e6);
    bytes > 0 ? std::printf("%.0f | %.0f %%", bytes / a * 1e-9, 100 * bytes / a / copy_rate_) : std::printf("| ");
    std::printf(" | %.1f us | %.2f |\n", b * 1e6, b / a);
  }

  // Two rows: forward, and backward, in units of bytes of the first input.
  void Rows(const std::string& name, const Tensors& inputs, double forward_units, double backward_units,
            const Function& ours, const Function& aten) {
    const double unit = static_cast<double>(inputs[0].nbytes());
    Row(name + " forward", forward_units * unit, [&] { Forward(inputs, ours); }, [&] { Forward(inputs, aten); });
    const Graph a(inputs, ours), b(inputs, aten);
    Row(name + " backward", backward_units * unit, [&] { a.Backward(); }, [&] { b.Backward(); });
  }

 private:
  static void Forward(const Tensors& inputs, const Function& function) {
    const c10::AutoGradMode no_grad(false);
    function(inputs);
  }

  // Of which backward is run again and again.
  class Graph {
   public:
    Graph(const Tensors& inputs, const Function& function) {
      for (const at::Tensor& input : inputs) leaves_.push_back(input.detach().requires_grad_(true));
      output_ = function(leaves_);
      gradient_ = at::ones_like(output_);
    }
    void Backward() const {
      for (const at::Tensor& leaf : leaves_) leaf.mutable_grad().reset();
      output_.backward(gradient_, /*retain_graph=*/true);
    }

   private:
    Tensors leaves_;
    at::Tensor output_, gradient_;
  };

  double copy_rate_ = 0;
};

void NormRows(Table& table) {
  const at::Tensor x = at::randn({kTokens, kDim}, kBf16), branch = at::randn({kTokens, kDim}, kBf16);
  const at::Tensor weight = at::randn({kDim}, kBf16);
  table.Rows(
      "rms_norm", {x, weight}, 2, 3, [](const Tensors& in) { return RmsNorm(in[0], in[1], 1e-5); },
      [](const Tensors& in) { return at::rms_norm(in[0], {kDim}, in[1], 1e-5); });
  table.Rows(
      "add_rms_norm", {branch, x, weight}, 4, 4,
      [](const Tensors& in) { return AddRmsNorm(in[0], in[1], in[2], 1e-5).first; },
      [](const Tensors& in) { return at::rms_norm(in[0] + in[1], {kDim}, in[2], 1e-5); });
}

void GateRows(Table& table) {
  const Tensors inputs = {at::randn({kTokens, kFfnDim}, kBf16), at::randn({kTokens, kFfnDim}, kBf16)};
  table.Rows(
      "swiglu", inputs, 3, 5, [](const Tensors& in) { return SwiGlu(in[0], in[1]); },
      [](const Tensors& in) { return at::silu(in[0]) * in[1]; });
}

void RopeRows(Table& table) {
  const at::Tensor q = at::randn({1, kTokens, 32, 128}, kBf16), angles = at::randn({1, kTokens, 64}, kFp32);
  const at::Tensor cos = angles.cos(), sin = angles.sin();
  table.Rows(
      "rope of q", {q}, 2, 2, [&](const Tensors& in) { return Rope(in[0], cos, sin); },
      [&](const Tensors& in) {
        const at::Tensor wide = in[0].to(at::kFloat), c = cos.unsqueeze(2), s = sin.unsqueeze(2);
        const at::Tensor first = wide.narrow(3, 0, 64), second = wide.narrow(3, 64, 64);
        return at::cat({first * c - second * s, second * c + first * s}, 3).to(at::kBFloat16);
      });
}

// Found largest, quantised and transposed: 2 bytes are read twice, 1 byte written twice.
void Float8Rows(Table& table) {
  const at::Tensor x = at::randn({kTokens, kFfnDim}, kBf16);
  const double bytes = 6.0 * kTokens * kFfnDim;
  const c10::AutoGradMode no_grad(false);
  const auto quantize = [](const at::Tensor& wide, const at::Tensor& scale) {
    const at::Tensor values = (wide.to(at::kFloat) * scale).clamp(-448, 448).to(at::kFloat8_e4m3fn);
    return std::pair(values, scale.reciprocal());
  };
  table.Row(
      "float8 tensorwise, both layouts", bytes,
      [&] { QuantizeFloat8(x, Float8Format::kE4m3, {.values = true, .transposed = true}); },
      [&] {
        const at::Tensor scale = 448.0 / x.abs().amax().to(at::kFloat);
        quantize(x, scale).first.t().contiguous();
      });
  table.Row(
      "float8 rowwise, both layouts", bytes,
      [&] { QuantizeFloat8(x, Float8Format::kE4m3, {.values = true, .transposed = true}, Float8Scaling::kRows); },
      [&] {
        for (const at::Tensor& rows : {x, x.t().contiguous()}) {
          quantize(rows, (448.0 / rows.abs().amax({-1}, true).to(at::kFloat)).log2().floor().exp2());
        }
      });
}

// Forward reads and writes a row a token. Backward clears a table and adds a row a token to it.
void EmbeddingRows(Table& table) {
  const at::Tensor weight = at::randn({kVocab, kDim}, kBf16);
  const at::Tensor ids = at::randint(kVocab, {kTokens}, at::TensorOptions(at::kCUDA).dtype(at::kLong));
  const double rows = static_cast<double>(kTokens) / kVocab;  // of the table
  table.Rows(
      "embedding", {weight}, 2 * rows, 1 + 2 * rows, [&](const Tensors& in) { return Embedding(ids, in[0]); },
      [&](const Tensors& in) { return at::embedding(in[0], ids); });
  const at::Tensor dout = at::randn({kTokens, kDim}, kBf16), sum = at::zeros({kVocab, kDim}, kFp32);
  table.Row(
      "embedding gradient, added to the fp32 sum", (2.0 + 4.0 + 4.0) * kTokens * kDim,
      [&] { AddEmbeddingGradient(ids, dout, sum); },
      [&] { sum.add_(at::embedding_dense_backward(dout, ids, kVocab, /*padding_idx=*/-1, false)); });
}

// The projection takes part in both: 4096 tokens, one chunk or more.
void LossRow(Table& table) {
  const at::Tensor hidden = at::randn({4096, kDim}, kBf16), weight = at::randn({kVocab, kDim}, kBf16) * 0.02;
  const at::Tensor labels = at::randint(kVocab, {4096}, at::TensorOptions(at::kCUDA).dtype(at::kLong));
  const auto run = [&](const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& loss) {
    const at::Tensor h = hidden.detach().requires_grad_(true), w = weight.detach().requires_grad_(true);
    loss(h, w).backward();
  };
  table.Row(
      "output projection and loss, 4096 tokens, forward and backward", 0,
      [&] { run([&](const at::Tensor& h, const at::Tensor& w) { return LinearCrossEntropy(h, w, labels); }); },
      [&] {
        run([&](const at::Tensor& h, const at::Tensor& w) {
          return at::cross_entropy_loss(at::mm(h, w.t()).to(at::kFloat), labels, {}, /*reduction=*/2);
        });
      });
  // 16384 tokens, several chunks, as a step has it: into the sum that a step holds anyhow.
  const at::Tensor more = hidden.repeat({4, 1}), more_labels = labels.repeat({4});
  at::Tensor sum = at::zeros({kVocab, kDim}, kFp32);
  const LossWeightGradient weight_gradient{
      .scale = at::full({}, 1e-4, kFp32),
      .add = [&](const at::Tensor& x, const at::Tensor& dy) { at::addmm_out(sum, sum, dy.t(), x, at::kFloat); }};
  const auto backward = [&](const LossWeightGradient* taker) {
    const at::Tensor h = more.detach().requires_grad_(true), w = weight.detach().requires_grad_(true);
    LinearCrossEntropy(h, w, more_labels, taker).backward(weight_gradient.scale);
    if (taker == nullptr) sum.add_(w.grad());
  };
  table.Row(
      "the same, 16384 tokens, its weight's gradient added to the fp32 sum; beside: ours by way of autograd", 0,
      [&] { backward(&weight_gradient); }, [&] { backward(nullptr); });
}

void OptimizerRows(Table& table) {
  constexpr int64_t kSize = 218'112'000;  // a layer
  const Tensors p = {at::randn({kSize}, kFp32)}, g = {at::randn({kSize}, kFp32)};
  const Tensors m = {at::zeros({kSize}, kFp32)}, v = {at::zeros({kSize}, kFp32)}, copy = {at::zeros({kSize}, kBf16)};
  const at::Tensor count = at::full({}, 10.0, kFp32);
  table.Row(
      "adamw with a bf16 copy", 30.0 * kSize,
      [&] {
        AdamWStep({.parameters = p, .gradients = g, .exp_avg = m, .exp_avg_sq = v, .copies = copy},
                  {.lr = 1e-4,
                   .beta1 = 0.9,
                   .beta2 = 0.95,
                   .eps = 1e-8,
                   .weight_decay = 0.1,
                   .num_updates = 10,
                   .gradient_scale = 0.5});
      },
      [&] {
        at::_foreach_mul_(g, 1.0001);
        at::_fused_adamw_(p, g, m, v, {}, {count}, 1e-4, 0.9, 0.95, 0.1, 1e-8, false, false);
        copy[0].copy_(p[0]);
      });
  table.Row("global_norm", 4.0 * kSize, [&] { GlobalNorm(g); }, [&] { at::_foreach_norm(g, 2); });
}

void AttentionRows() {
  const Tensors in = {at::randn({1, kTokens, 32, 128}, kBf16).requires_grad_(true),
                      at::randn({1, kTokens, 8, 128}, kBf16).requires_grad_(true),
                      at::randn({1, kTokens, 8, 128}, kBf16).requires_grad_(true)};
  const at::Tensor starts = at::arange(0, kTokens + 1, 1024, at::TensorOptions(at::kCUDA).dtype(at::kInt));
  const VisibleKeys causal,
      documents{
          .first_key = at::Tensor(), .several_documents = true, .document_starts = starts, .longest_document = 1024};
  const auto row = [](const char* name, double forward_flops, const std::function<at::Tensor()>& attend) {
    const double forward = Seconds([&] {
      const c10::AutoGradMode no_grad(false);
      attend();
    });
    const at::Tensor out = attend(), gradient = at::ones_like(out);
    const double backward = Seconds([&] { out.backward(gradient, /*retain_graph=*/true); });
    std::printf("| %s | %.0f us | %.0f TFLOP/s | %.0f us | %.0f TFLOP/s |\n", name, forward * 1e6,
                forward_flops / forward * 1e-12, backward * 1e6, 2.5 * forward_flops / backward * 1e-12);
  };
  std::printf("\n| attention, 1 x 8192, 32 heads on 8, 128 | forward | | backward | |\n|---|---|---|---|---|\n");
  const double flops = 4.0 * kTokens * kTokens / 2 * 32 * 128;
  row("ours, one document", flops, [&] { return Attention(in[0], in[1], in[2], causal); });
  row("ours, 8 documents of 1024", flops / 8, [&] { return Attention(in[0], in[1], in[2], documents); });
  row("ATen's choice, one document", flops, [&] { return LibraryAttention(in[0], in[1], in[2], at::Tensor()); });
}

void Main() {
  TORCH_CHECK(at::globalContext().hasCUDA(), "cuda_benchmark needs a GPU");
  Table table;
  NormRows(table);
  GateRows(table);
  RopeRows(table);
  Float8Rows(table);
  EmbeddingRows(table);
  OptimizerRows(table);
  LossRow(table);
  AttentionRows();
}

}  // namespace
}  // namespace titan

int main() { titan::Main(); }
