#include "kernels/attention_cpu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/simd.h"

namespace titan {
namespace {

// 64 bytes of numbers: one AVX-512 register, two of AVX2.
template <typename T>
struct VectorOf {
  static constexpr int64_t kLanes = 64 / sizeof(T);
  typedef T Type __attribute__((vector_size(64)));
};

#define TITAN_LOAD(Vector, name, pointer) \
  Vector name;                            \
  std::memcpy(&name, pointer, sizeof(name))

// Queries whose contributions to the gradients of keys and values are added together.
constexpr int64_t kQueries = 4;

// One head of one row of the batch, as strided rows of `dim` numbers.
template <typename T>
struct Rows {
  T* data;
  int64_t stride;
  T* operator[](int64_t i) const { return data + i * stride; }
};

struct Sizes {
  int64_t batch, sequence, heads, kv_heads, dim;
  int64_t padded_dim;  // a multiple of the lanes
  int64_t row_stride;  // of transposed matrices and rows of scores: so long that a read of 4 vectors never leaves it
};

template <typename T>
Sizes SizesOf(const at::Tensor& q, const at::Tensor& k) {
  constexpr int64_t kLanes = VectorOf<T>::kLanes;
  const int64_t sequence = q.size(1), dim = q.size(3);
  return {.batch = q.size(0),
          .sequence = sequence,
          .heads = q.size(2),
          .kv_heads = k.size(2),
          .dim = dim,
          .padded_dim = (dim + kLanes - 1) / kLanes * kLanes,
          .row_stride = (sequence + 5 * kLanes - 1) / kLanes * kLanes};
}

template <typename T>
Rows<const T> HeadOf(const at::Tensor& x, int64_t batch, int64_t head) {
  return {x.const_data_ptr<T>() + batch * x.stride(0) + head * x.stride(2), x.stride(1)};
}

template <typename T>
Rows<T> MutableHeadOf(const at::Tensor& x, int64_t batch, int64_t head) {
  return {x.mutable_data_ptr<T>() + batch * x.stride(0) + head * x.stride(2), x.stride(1)};
}

// to[d][j] = from[j][d]; to (dim, row_stride), zero beyond the sequence.
template <typename T>
TITAN_INLINE void Transpose(Rows<const T> from, const Sizes& s, T* __restrict to) {
  for (int64_t d = 0; d < s.dim; ++d) {
    for (int64_t j = 0; j < s.sequence; ++j) to[d * s.row_stride + j] = from[j][d];
    std::fill(to + d * s.row_stride + s.sequence, to + (d + 1) * s.row_stride, T(0));
  }
}

// One row times `scale`, zeros after it: to (padded_dim).
template <typename T>
TITAN_INLINE void CopyRow(const T* __restrict from, T scale, const Sizes& s, T* __restrict to) {
  for (int64_t d = 0; d < s.dim; ++d) to[d] = from[d] * scale;
  for (int64_t d = s.dim; d < s.padded_dim; ++d) to[d] = 0;
}

// to (sequence, padded_dim).
template <typename T>
TITAN_INLINE void CopyRows(Rows<const T> from, const Sizes& s, T* __restrict to) {
  for (int64_t j = 0; j < s.sequence; ++j) CopyRow<T>(from[j], T(1), s, to + j * s.padded_dim);
}

// out[j] = sum over d of x[d] matrix[d][j] for j in [begin, end); values after `end` may be written too.
template <typename T>
TITAN_INLINE void DotAll(const T* __restrict x, const T* __restrict matrix, const Sizes& s, int64_t begin, int64_t end,
                         T* __restrict out) {
  using Vector = typename VectorOf<T>::Type;
  constexpr int64_t kLanes = VectorOf<T>::kLanes;
  for (int64_t j = begin; j < end; j += 4 * kLanes) {
    Vector sum0{}, sum1{}, sum2{}, sum3{};
    for (int64_t d = 0; d < s.dim; ++d) {
      const T* row = matrix + d * s.row_stride + j;
      TITAN_LOAD(Vector, v0, row);
      TITAN_LOAD(Vector, v1, row + kLanes);
      TITAN_LOAD(Vector, v2, row + 2 * kLanes);
      TITAN_LOAD(Vector, v3, row + 3 * kLanes);
      sum0 += x[d] * v0;
      sum1 += x[d] * v1;
      sum2 += x[d] * v2;
      sum3 += x[d] * v3;
    }
    std::memcpy(out + j, &sum0, sizeof(Vector));
    std::memcpy(out + j + kLanes, &sum1, sizeof(Vector));
    std::memcpy(out + j + 2 * kLanes, &sum2, sizeof(Vector));
    std::memcpy(out + j + 3 * kLanes, &sum3, sizeof(Vector));
  }
}

// out[d] = scale * sum over j in [begin, end) of weights[j] rows[j][d].
template <typename T>
TITAN_INLINE void WeightedSum(const T* __restrict weights, const T* __restrict rows, const Sizes& s, int64_t begin,
                              int64_t end, T scale, T* __restrict out) {
  using Vector = typename VectorOf<T>::Type;
  constexpr int64_t kLanes = VectorOf<T>::kLanes;
  for (int64_t d = 0; d < s.padded_dim; d += kLanes) {
    Vector sum0{}, sum1{}, sum2{}, sum3{};
    int64_t j = begin;
    for (; j + 4 <= end; j += 4) {
      const T* row = rows + j * s.padded_dim + d;
      TITAN_LOAD(Vector, v0, row);
      TITAN_LOAD(Vector, v1, row + s.padded_dim);
      TITAN_LOAD(Vector, v2, row + 2 * s.padded_dim);
      TITAN_LOAD(Vector, v3, row + 3 * s.padded_dim);
      sum0 += weights[j] * v0;
      sum1 += weights[j + 1] * v1;
      sum2 += weights[j + 2] * v2;
      sum3 += weights[j + 3] * v3;
    }
    for (; j < end; ++j) {
      TITAN_LOAD(Vector, v, rows + j * s.padded_dim + d);
      sum0 += weights[j] * v;
    }
    const Vector sum = ((sum0 + sum1) + (sum2 + sum3)) * scale;
    std::memcpy(out + d, &sum, std::min<int64_t>(kLanes, s.dim - d) * sizeof(T));
  }
}

// rows[j] += sum over the kQueries rows of x of weights[r][j] x[r], for j in [begin, end). weights (kQueries,
// row_stride), x (kQueries, padded_dim), rows (sequence, padded_dim).
template <typename T>
TITAN_INLINE void AddOuterProducts(const T* __restrict weights, const T* __restrict x, const Sizes& s, int64_t begin,
                                   int64_t end, T* __restrict rows) {
  using Vector = typename VectorOf<T>::Type;
  const T *w0 = weights, *w1 = w0 + s.row_stride, *w2 = w1 + s.row_stride, *w3 = w2 + s.row_stride;
  for (int64_t d = 0; d < s.padded_dim; d += VectorOf<T>::kLanes) {
    TITAN_LOAD(Vector, x0, x + d);
    TITAN_LOAD(Vector, x1, x + s.padded_dim + d);
    TITAN_LOAD(Vector, x2, x + 2 * s.padded_dim + d);
    TITAN_LOAD(Vector, x3, x + 3 * s.padded_dim + d);
    for (int64_t j = begin; j < end; ++j) {
      T* row = rows + j * s.padded_dim + d;
      TITAN_LOAD(Vector, sum, row);
      sum += (w0[j] * x0 + w1[j] * x1) + (w2[j] * x2 + w3[j] * x3);
      std::memcpy(row, &sum, sizeof(sum));
    }
  }
}

// scores[begin .. end) become exponentials of their distances from the largest; returns the sum and the largest.
template <typename T>
TITAN_INLINE T Exponentiate(T* __restrict scores, int64_t begin, int64_t end, T& largest) {
  T most = scores[begin];
#pragma omp simd reduction(max : most)
  for (int64_t j = begin; j < end; ++j) most = scores[j] > most ? scores[j] : most;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = begin; j < end; ++j) {
    scores[j] = Exp(scores[j] - most);
    sum += scores[j];
  }
  largest = most;
  return sum;
}

template <typename T>
struct ForwardTask {
  const at::Tensor &q, &k, &v, &first_key;
  const AttentionOutput& result;
  Sizes s;
  T scale;

  // Key head `kv_head` of batch row `batch` and the query heads that use it.
  TITAN_INLINE void Run(int64_t batch, int64_t kv_head, T* buffer) const {
    T* keys = buffer;                                // (dim, row_stride)
    T* values = keys + s.dim * s.row_stride;         // (sequence, padded_dim)
    T* scores = values + s.sequence * s.padded_dim;  // (row_stride)
    T* query = scores + s.row_stride;                // (padded_dim)
    Transpose<T>(HeadOf<T>(k, batch, kv_head), s, keys);
    CopyRows<T>(HeadOf<T>(v, batch, kv_head), s, values);
    const int64_t* first = first_key.const_data_ptr<int64_t>() + batch * s.sequence;
    const int64_t group = s.heads / s.kv_heads;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const Rows<const T> queries = HeadOf<T>(q, batch, head);
      const Rows<T> out = MutableHeadOf<T>(result.out, batch, head);
      T* normalizer = result.normalizer.template mutable_data_ptr<T>() + (batch * s.heads + head) * s.sequence;
      for (int64_t i = 0; i < s.sequence; ++i) {
        CopyRow<T>(queries[i], scale, s, query);
        DotAll<T>(query, keys, s, first[i], i + 1, scores);
        T largest;
        const T sum = Exponentiate<T>(scores, first[i], i + 1, largest);
        normalizer[i] = largest + std::log(sum);
        WeightedSum<T>(scores, values, s, first[i], i + 1, T(1) / sum, out[i]);
      }
    }
  }

  size_t BufferSize() const { return s.dim * s.row_stride + s.sequence * s.padded_dim + s.row_stride + s.padded_dim; }
};

template <typename T>
struct BackwardTask {
  const at::Tensor &q, &k, &v, &first_key, &dout;
  const AttentionOutput& forward;
  const AttentionGradients& result;
  Sizes s;
  T scale;

  struct Buffers {
    T *keys, *dkeys, *dvalues;   // (sequence, padded_dim)
    T *keys_t, *values_t;        // (dim, row_stride)
    T *probabilities, *dscores;  // (kQueries, row_stride)
    T *queries, *dout;           // (kQueries, padded_dim)
  };

  TITAN_INLINE void Run(int64_t batch, int64_t kv_head, T* buffer) const {
    const Buffers b = Split(buffer);
    CopyRows<T>(HeadOf<T>(k, batch, kv_head), s, b.keys);
    Transpose<T>(HeadOf<T>(k, batch, kv_head), s, b.keys_t);
    Transpose<T>(HeadOf<T>(v, batch, kv_head), s, b.values_t);
    std::fill(b.dkeys, b.dkeys + s.sequence * s.padded_dim, T(0));
    std::fill(b.dvalues, b.dvalues + s.sequence * s.padded_dim, T(0));
    const int64_t group = s.heads / s.kv_heads;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t i = 0; i < s.sequence; i += kQueries) RunQueries(batch, head, i, b);
    }
    const Rows<T> dk = MutableHeadOf<T>(result.dk, batch, kv_head), dv = MutableHeadOf<T>(result.dv, batch, kv_head);
    for (int64_t j = 0; j < s.sequence; ++j) {
      std::copy(b.dkeys + j * s.padded_dim, b.dkeys + j * s.padded_dim + s.dim, dk[j]);
      std::copy(b.dvalues + j * s.padded_dim, b.dvalues + j * s.padded_dim + s.dim, dv[j]);
    }
  }

  // Queries [begin, begin + kQueries), fewer at the end of the sequence. Keys that only some of them see have
  // probability 0 for the others.
  TITAN_INLINE void RunQueries(int64_t batch, int64_t head, int64_t begin, const Buffers& b) const {
    const int64_t end = std::min(begin + kQueries, s.sequence);
    const int64_t* first = first_key.const_data_ptr<int64_t>() + batch * s.sequence;
    const int64_t low = *std::min_element(first + begin, first + end);
    for (int64_t r = 0; r < kQueries; ++r) {
      T *p = b.probabilities + r * s.row_stride, *ds = b.dscores + r * s.row_stride;
      T *query = b.queries + r * s.padded_dim, *gradient = b.dout + r * s.padded_dim;
      const int64_t i = begin + r;
      if (i >= end) {
        std::fill(p + low, p + end, T(0));
        std::fill(ds + low, ds + end, T(0));
        std::fill(query, query + s.padded_dim, T(0));
        std::fill(gradient, gradient + s.padded_dim, T(0));
        continue;
      }
      CopyRow<T>(HeadOf<T>(q, batch, head)[i], scale, s, query);
      CopyRow<T>(HeadOf<T>(dout, batch, head)[i], T(1), s, gradient);
      OneQuery(batch, head, i, first[i], b, query, gradient, p, ds);
      std::fill(p + low, p + first[i], T(0));
      std::fill(ds + low, ds + first[i], T(0));
      std::fill(p + i + 1, p + end, T(0));
      std::fill(ds + i + 1, ds + end, T(0));
    }
    AddOuterProducts<T>(b.probabilities, b.dout, s, low, end, b.dvalues);
    AddOuterProducts<T>(b.dscores, b.queries, s, low, end, b.dkeys);
  }

  // p = exp(score - normalizer), ds = p (dout . v - dout . out), dq = scale ds keys.
  TITAN_INLINE void OneQuery(int64_t batch, int64_t head, int64_t i, int64_t first, const Buffers& b,
                             const T* __restrict query, const T* __restrict gradient, T* __restrict p,
                             T* __restrict ds) const {
    DotAll<T>(query, b.keys_t, s, first, i + 1, p);
    DotAll<T>(gradient, b.values_t, s, first, i + 1, ds);
    const T normalizer = forward.normalizer.template const_data_ptr<T>()[(batch * s.heads + head) * s.sequence + i];
    const T* out = HeadOf<T>(forward.out, batch, head)[i];
    T delta = 0;
    for (int64_t d = 0; d < s.dim; ++d) delta += gradient[d] * out[d];
#pragma omp simd
    for (int64_t j = first; j <= i; ++j) {
      p[j] = Exp(p[j] - normalizer);
      ds[j] = p[j] * (ds[j] - delta);
    }
    WeightedSum<T>(ds, b.keys, s, first, i + 1, scale, MutableHeadOf<T>(result.dq, batch, head)[i]);
  }

  Buffers Split(T* buffer) const {
    const int64_t rows = s.sequence * s.padded_dim, transposed = s.dim * s.row_stride;
    Buffers b;
    b.keys = buffer;
    b.dkeys = b.keys + rows;
    b.dvalues = b.dkeys + rows;
    b.keys_t = b.dvalues + rows;
    b.values_t = b.keys_t + transposed;
    b.probabilities = b.values_t + transposed;
    b.dscores = b.probabilities + kQueries * s.row_stride;
    b.queries = b.dscores + kQueries * s.row_stride;
    b.dout = b.queries + kQueries * s.padded_dim;
    return b;
  }

  size_t BufferSize() const {
    return 3 * s.sequence * s.padded_dim + 2 * s.dim * s.row_stride + 2 * kQueries * (s.row_stride + s.padded_dim);
  }
};

// Runs a task for every (batch row, key head). Each writes its own part of the result: any number of threads gives the
// same bits.
template <typename T, typename Task>
void RunAll(const Task& task) {
  const int64_t kv_heads = task.s.kv_heads;
  at::parallel_for(0, task.s.batch * kv_heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> buffer(task.BufferSize());
    WithBestSimd([&]() TITAN_INLINE_LAMBDA {
      for (int64_t i = begin; i < end; ++i) task.Run(i / kv_heads, i % kv_heads, buffer.data());
    });
  });
}

// Calls f.operator()<T>() for fp32 or fp64.
template <typename F>
void DispatchWide(const at::Tensor& x, const F& f) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble, "attention: expects fp32 or fp64, got ",
              x.scalar_type());
  return x.scalar_type() == at::kDouble ? f.template operator()<double>() : f.template operator()<float>();
}

double Scale(const at::Tensor& q) { return 1.0 / std::sqrt(static_cast<double>(q.size(3))); }

}  // namespace

AttentionOutput AttentionForwardCpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const at::Tensor& first_key) {
  AttentionOutput result{.out = at::empty(q.sizes(), q.options()),
                         .normalizer = at::empty({q.size(0), q.size(2), q.size(1)}, q.options())};
  DispatchWide(q, [&]<typename T>() {
    RunAll<T>(ForwardTask<T>{q, k, v, first_key, result, SizesOf<T>(q, k), static_cast<T>(Scale(q))});
  });
  return result;
}

AttentionGradients AttentionBackwardCpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const at::Tensor& first_key, const AttentionOutput& forward,
                                        const at::Tensor& dout) {
  AttentionGradients result{.dq = at::empty(q.sizes(), q.options()),
                            .dk = at::empty(k.sizes(), k.options()),
                            .dv = at::empty(v.sizes(), v.options())};
  DispatchWide(q, [&]<typename T>() {
    RunAll<T>(BackwardTask<T>{q, k, v, first_key, dout, forward, result, SizesOf<T>(q, k), static_cast<T>(Scale(q))});
  });
  return result;
}

}  // namespace titan
