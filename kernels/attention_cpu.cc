#include "kernels/attention_cpu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <vector>

#include "kernels/attention_tiles.h"
#include "kernels/simd.h"

namespace titan {
namespace {

template <typename T>
const AttentionTiles<T>& BestTiles();

template <>
const AttentionTiles<double>& BestTiles<double>() {
  return simd_baseline::kAttentionTilesDouble;
}

template <>
const AttentionTiles<float>& BestTiles<float>() {
  if (BestIsa() == Isa::kAvx512) return simd_avx512::kAttentionTiles;
  return BestIsa() == Isa::kAvx2 ? simd_avx2::kAttentionTiles : simd_baseline::kAttentionTiles;
}

// Heads of x (B, S, heads, d) from `head` on, of one row of the batch.
template <typename T>
AttentionHeads<const T> HeadsOf(const at::Tensor& x, int64_t batch, int64_t head) {
  return {x.const_data_ptr<T>() + batch * x.stride(0) + head * x.stride(2), x.stride(2), x.stride(1)};
}

template <typename T>
AttentionHeads<T> MutableHeadsOf(const at::Tensor& x, int64_t batch, int64_t head) {
  return {x.mutable_data_ptr<T>() + batch * x.stride(0) + head * x.stride(2), x.stride(2), x.stride(1)};
}

at::Tensor WithUnitStride(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

// What forward and backward read, of all rows and heads.
struct Operands {
  Operands(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const KeyRanges& ranges)
      : q(WithUnitStride(q)),
        k(WithUnitStride(k)),
        v(WithUnitStride(v)),
        first(WithUnitStride(ranges.first)),
        end(WithUnitStride(ranges.end)),
        sizes{.queries = q.size(1), .keys = k.size(1), .group = q.size(2) / k.size(2), .dim = q.size(3)} {}

  // Of one key head of one row.
  template <typename T>
  AttentionInputs<T> Inputs(int64_t batch, int64_t kv_head) const {
    return {.sizes = sizes,
            .scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(sizes.dim))),
            .first_key = first.const_data_ptr<int64_t>() + batch * first.stride(0),
            .end_key = end.const_data_ptr<int64_t>() + batch * end.stride(0),
            .queries = HeadsOf<T>(q, batch, kv_head * sizes.group),
            .keys = HeadsOf<T>(k, batch, kv_head),
            .values = HeadsOf<T>(v, batch, kv_head)};
  }

  at::Tensor q, k, v, first, end;
  AttentionSizes sizes;
};

// Calls f(batch row, key head, scratch) for all of them. Each writes its own part of the result: any number of threads
// gives the same bits.
template <typename T, typename F>
void ForEachKeyHead(const at::Tensor& k, int64_t scratch_size, const F& f) {
  const int64_t kv_heads = k.size(2);
  at::parallel_for(0, k.size(0) * kv_heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> scratch(scratch_size);
    for (int64_t i = begin; i < end; ++i) f(i / kv_heads, i % kv_heads, scratch.data());
  });
}

// Calls f.operator()<T>() for fp32 or fp64.
template <typename F>
void DispatchWide(const at::Tensor& x, const F& f) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble, "attention: expects fp32 or fp64, got ",
              x.scalar_type());
  return x.scalar_type() == at::kDouble ? f.template operator()<double>() : f.template operator()<float>();
}

}  // namespace

AttentionOutput AttentionForwardCpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const KeyRanges& ranges) {
  const Operands in(q, k, v, ranges);
  AttentionOutput result{.out = at::empty(q.sizes(), q.options()),
                         .normalizer = at::empty({q.size(0), q.size(2), q.size(1)}, q.options())};
  DispatchWide(q, [&]<typename T>() {
    const AttentionTiles<T>& tiles = BestTiles<T>();
    ForEachKeyHead<T>(k, tiles.forward_scratch(in.sizes), [&](int64_t batch, int64_t kv_head, T* scratch) {
      const int64_t head = kv_head * in.sizes.group;
      tiles.forward({.in = in.Inputs<T>(batch, kv_head),
                     .out = MutableHeadsOf<T>(result.out, batch, head),
                     .normalizer = result.normalizer.mutable_data_ptr<T>() + batch * result.normalizer.stride(0) +
                                   head * in.sizes.queries},
                    scratch);
    });
  });
  return result;
}

AttentionGradients AttentionBackwardCpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const KeyRanges& ranges, const AttentionOutput& forward,
                                        const at::Tensor& dout) {
  const Operands in(q, k, v, ranges);
  const at::Tensor out = WithUnitStride(forward.out), gradient = WithUnitStride(dout);
  const at::Tensor normalizer = forward.normalizer.contiguous();
  AttentionGradients result{.dq = at::empty(q.sizes(), q.options()),
                            .dk = at::empty(k.sizes(), k.options()),
                            .dv = at::empty(v.sizes(), v.options())};
  DispatchWide(q, [&]<typename T>() {
    const AttentionTiles<T>& tiles = BestTiles<T>();
    ForEachKeyHead<T>(k, tiles.backward_scratch(in.sizes), [&](int64_t batch, int64_t kv_head, T* scratch) {
      const int64_t head = kv_head * in.sizes.group;
      tiles.backward(
          {.in = in.Inputs<T>(batch, kv_head),
           .out = HeadsOf<T>(out, batch, head),
           .dout = HeadsOf<T>(gradient, batch, head),
           .normalizer = normalizer.const_data_ptr<T>() + batch * normalizer.stride(0) + head * in.sizes.queries,
           .dqueries = MutableHeadsOf<T>(result.dq, batch, head),
           .dkeys = MutableHeadsOf<T>(result.dk, batch, kv_head),
           .dvalues = MutableHeadsOf<T>(result.dv, batch, kv_head)},
          scratch);
    });
  });
  return result;
}

}  // namespace titan
