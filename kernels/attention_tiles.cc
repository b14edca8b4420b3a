// Compiled for each instruction set, with TITAN_SIMD_NAMESPACE defined: attention_tiles.h says what must not be here.
//
// Queries are taken kQueries at a time. Their scores with the keys that any of them sees are a matrix that stays in the
// nearest cache, and every product that makes or uses it keeps its sums in registers:
//
//   scores = queries keys^T    P = softmax(scores)    out = P values
//   dP = dout values^T    dS = P (dP - delta)    dqueries = dS keys    dvalues += P^T dout    dkeys += dS^T queries

#include "kernels/attention_tiles.h"

#include <type_traits>

#define TITAN_INLINE inline __attribute__((always_inline))

namespace titan::TITAN_SIMD_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kQueries = 8;  // with two vectors of sums for each: half of the registers
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kQueries = 4;
#else
constexpr int kVectorBytes = 16;
constexpr int kQueries = 4;
#endif

template <typename T>
struct Simd {
  static constexpr int64_t kLanes = kVectorBytes / sizeof(T);
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index __attribute__((vector_size(kVectorBytes)));
  typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};
template <typename T>
using Vector = typename Simd<T>::Vector;

template <typename T>
TITAN_INLINE Vector<T> Load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <typename T>
TITAN_INLINE void Store(T* to, Vector<T> value) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = value;
}

TITAN_INLINE float Power2(float x) { return __builtin_exp2f(x); }
TITAN_INLINE double Power2(double x) { return __builtin_exp2(x); }
constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;

TITAN_INLINE float Log2(float x) { return __builtin_log2f(x); }
TITAN_INLINE double Log2(double x) { return __builtin_log2(x); }

TITAN_INLINE int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

// 2^x for x <= 1, 0 below -126; within 2 ulp. A fit of 2^r on [-1/2, 1/2] whose relative error is at most 9.1e-8 and
// nowhere larger than at six points (equal ripples), with the constant fixed to 1.
TITAN_INLINE Vector<float> Exp2(Vector<float> x) {
  typedef int32_t Integers __attribute__((vector_size(kVectorBytes)));
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold
  const Vector<float> shifted = x + kRound;
  const Vector<float> r = x - (shifted - kRound);
  Vector<float> p = r * 1.32647273e-3f + 9.67151299e-3f;
  p = p * r + 5.55073358e-2f;
  p = p * r + 2.40222424e-1f;
  p = p * r + 6.93147004e-1f;
  p = p * r + 1.0f;
  const Vector<float> power =
      reinterpret_cast<Vector<float>>(reinterpret_cast<Integers>(p) + (reinterpret_cast<Integers>(shifted) << 23));
  return x < -126.0f ? Vector<float>{} : power;
}

TITAN_INLINE Vector<double> Exp2(Vector<double> x) {
  for (int lane = 0; lane < Simd<double>::kLanes; ++lane) x[lane] = __builtin_exp2(x[lane]);
  return x;
}

// Keys of a block: its packed forms stay in the second-level cache while all queries pass.
constexpr int64_t kBlockElements = 32 * 1024;

// Packed matrices have rows of whole vectors and as many rows as a block has keys.
template <typename T>
struct Layout {
  explicit Layout(const AttentionSizes& sizes)
      : dim(sizes.dim),
        padded_dim(RoundUp(dim)),
        block(Min(RoundUp(sizes.sequence), RoundUp(kBlockElements / dim + kQueries))),
        score_stride(block + Simd<T>::kLanes) {}

  static int64_t RoundUp(int64_t n) { return (n + Simd<T>::kLanes - 1) / Simd<T>::kLanes * Simd<T>::kLanes; }

  int64_t panels() const { return block * dim; }
  int64_t rows() const { return block * padded_dim; }
  int64_t scores() const { return kQueries * score_stride; }
  int64_t query_rows() const { return kQueries * padded_dim; }

  int64_t dim, padded_dim;
  int64_t block;         // keys
  int64_t score_stride;  // not a power of two, so that rows of scores do not compete for places in the cache
};

// Up to kQueries queries, and the keys of a block that some of them see. Keys are counted from the block's first.
struct Tile {
  int64_t begin;      // first query
  int64_t count;      // queries
  int64_t low, high;  // keys; none if low >= high
};

// Keys [block, block + size) and queries from `begin` on.
TITAN_INLINE Tile TileOf(const int64_t* first_key, int64_t sequence, int64_t block, int64_t size, int64_t begin) {
  Tile tile{.begin = begin, .count = Min(kQueries, sequence - begin), .low = size, .high = 0};
  for (int64_t i = begin; i < begin + tile.count; ++i) tile.low = Min(tile.low, first_key[i] - block);
  if (tile.low < 0) tile.low = 0;
  tile.high = Min(size, begin + tile.count - block);
  return tile;
}

// Asks for a row that will be packed soon: rows of one head lie too far apart for the processor to guess.
template <typename T>
TITAN_INLINE void Prefetch(const T* row, int64_t dim) {
  for (int64_t d = 0; d < dim; d += 64 / sizeof(T)) __builtin_prefetch(row + d);
}

constexpr int64_t kRowsAhead = 8;

// The matrix [row][column] becomes [column][row].
TITAN_INLINE void Transpose4x4(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  typedef float Four __attribute__((vector_size(16)));
  typedef float UnalignedFour __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int32_t Index __attribute__((vector_size(16)));
  constexpr Index kLow = {0, 4, 1, 5}, kHigh = {2, 6, 3, 7}, kLeft = {0, 1, 4, 5}, kRight = {2, 3, 6, 7};
  const auto row = [&](int i) { return Four(*reinterpret_cast<const UnalignedFour*>(from + i * from_stride)); };
  const Four a = row(0), b = row(1), c = row(2), d = row(3);
  const Four ab_low = __builtin_shuffle(a, b, kLow), ab_high = __builtin_shuffle(a, b, kHigh);
  const Four cd_low = __builtin_shuffle(c, d, kLow), cd_high = __builtin_shuffle(c, d, kHigh);
  const auto store = [&](int i, Four x) { *reinterpret_cast<UnalignedFour*>(to + i * to_stride) = x; };
  store(0, __builtin_shuffle(ab_low, cd_low, kLeft));
  store(1, __builtin_shuffle(ab_low, cd_low, kRight));
  store(2, __builtin_shuffle(ab_high, cd_high, kLeft));
  store(3, __builtin_shuffle(ab_high, cd_high, kRight));
}

// to[d * lanes + lane] of panel j is from[j * lanes + lane][d]: keys of a panel are the lanes of a vector. Zeros after
// the last of `count` keys.
template <typename T>
void PackPanels(const T* from, int64_t stride, int64_t count, const Layout<T> layout, T* to) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  int64_t j = 0;
  if constexpr (sizeof(T) == 4) {
    for (; layout.dim % 4 == 0 && j + 4 <= count; j += 4) {
      const T* row = from + j * stride;
      for (int i = 0; i < 4; ++i) Prefetch<T>(row + (kRowsAhead + i) * stride, layout.dim);
      T* panel = to + j / kLanes * kLanes * layout.dim + j % kLanes;
      for (int64_t d = 0; d < layout.dim; d += 4) Transpose4x4(row + d, stride, panel + d * kLanes, kLanes);
    }
  }
  for (; j < Layout<T>::RoundUp(count); ++j) {
    T* panel = to + j / kLanes * kLanes * layout.dim + j % kLanes;
    for (int64_t d = 0; d < layout.dim; ++d) panel[d * kLanes] = j < count ? from[j * stride + d] : T(0);
  }
}

// to (dim) = scale * from.
template <typename T>
TITAN_INLINE void ScaleRow(const T* from, T scale, int64_t dim, T* to) {
  int64_t d = 0;
  for (; d + Simd<T>::kLanes <= dim; d += Simd<T>::kLanes) Store(to + d, Load(from + d) * scale);
  for (; d < dim; ++d) to[d] = from[d] * scale;
}

// to (count, padded_dim) = scale * from, with zeros after each row.
template <typename T>
void PackRows(const T* from, int64_t stride, int64_t count, T scale, const Layout<T> layout, T* to) {
  for (int64_t i = 0; i < count; ++i, from += stride, to += layout.padded_dim) {
    Prefetch<T>(from + kRowsAhead * stride, layout.dim);
    ScaleRow<T>(from, scale, layout.dim, to);
    for (int64_t d = layout.dim; d < layout.padded_dim; ++d) to[d] = 0;
  }
}

template <typename T>
void Clear(T* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = 0;
}

// Rows of queries as PackRows makes them, and zeros in the place of those that a smaller tile lacks.
template <typename T>
void PackQueries(const T* from, int64_t stride, const Tile tile, T scale, const Layout<T> layout, T* to) {
  PackRows<T>(from + tile.begin * stride, stride, tile.count, scale, layout, to);
  Clear<T>(to + tile.count * layout.padded_dim, (kQueries - tile.count) * layout.padded_dim);
}

// out[r][lane of panel p] = sum over d of rows[r][d] panel p[d][lane].
template <typename T, int kPanels>
TITAN_INLINE void DotPanels(const T* rows, const T* panels, const Layout<T> layout, T* out) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  Vector<T> sum[kQueries][kPanels] = {};
  for (int64_t d = 0; d < layout.dim; ++d) {
    Vector<T> keys[kPanels];
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) keys[p] = Load(panels + (p * layout.dim + d) * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < kPanels; ++p) sum[r][p] += rows[r * layout.padded_dim + d] * keys[p];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kQueries; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) Store(out + r * layout.score_stride + p * kLanes, sum[r][p]);
  }
}

// out[r][j] = rows[r] . (key j) for the keys of whole panels that cover the tile. rows (kQueries, padded_dim), out
// (kQueries, score_stride).
template <typename T>
void DotAll(const T* rows, const T* panels, const Layout<T> layout, const Tile tile, T* out) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  int64_t j = tile.low / kLanes * kLanes;
  for (; j + kLanes < tile.high; j += 2 * kLanes) DotPanels<T, 2>(rows, panels + j * layout.dim, layout, out + j);
  if (j < tile.high) DotPanels<T, 1>(rows, panels + j * layout.dim, layout, out + j);
}

// sums[r][vector] = sum over the tile's keys of weights[r][j] rows[j][d + vector], as registers.
template <typename T, int kVectors>
TITAN_INLINE void WeightedSums(const T* weights, const T* rows, const Layout<T> layout, const Tile tile,
                               Vector<T> (&sums)[kQueries][kVectors]) {
  for (int64_t j = tile.low; j < tile.high; ++j) {
    Vector<T> row[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) row[v] = Load(rows + j * layout.padded_dim + v * Simd<T>::kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[r][v] += weights[r * layout.score_stride + j] * row[v];
    }
  }
}

// How sums of a tile's queries join what stands in their rows: to = scale * sum + keep * to, where `to` is not read if
// keep is 0.
template <typename T>
struct Blend {
  T scale[kQueries] = {}, keep[kQueries] = {};
};

template <typename T, int kVectors>
TITAN_INLINE void WeightedRowsPart(const T* weights, const T* rows, const Layout<T> layout, const Tile tile,
                                   const Blend<T>& blend, T* to, int64_t stride, int64_t width) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  Vector<T> sums[kQueries][kVectors] = {};
  WeightedSums<T, kVectors>(weights, rows, layout, tile, sums);
#pragma GCC unroll 8
  for (int r = 0; r < kQueries; ++r) {
    if (r >= tile.count) break;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      Vector<T> value = sums[r][v] * blend.scale[r];
      T* out = to + r * stride + v * kLanes;
      if (width >= (v + 1) * kLanes) {
        if (blend.keep[r] != 0) value += blend.keep[r] * Load(out);
        Store(out, value);
      } else {
        for (int64_t lane = 0; lane < width - v * kLanes; ++lane) {
          out[lane] = blend.keep[r] != 0 ? value[lane] + blend.keep[r] * out[lane] : value[lane];
        }
      }
    }
  }
}

// Blends sum over j of weights[r][j] rows[j] into row r of `to`, for the tile's queries and keys. weights (kQueries,
// score_stride), rows (block, padded_dim).
template <typename T>
void WeightedRows(const T* weights, const T* rows, const Layout<T> layout, const Tile tile, const Blend<T>& blend,
                  T* to, int64_t stride) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  to += tile.begin * stride;
  int64_t d = 0;
  for (; d + kLanes < layout.padded_dim; d += 2 * kLanes) {
    WeightedRowsPart<T, 2>(weights, rows + d, layout, tile, blend, to + d, stride, layout.dim - d);
  }
  if (d < layout.padded_dim) {
    WeightedRowsPart<T, 1>(weights, rows + d, layout, tile, blend, to + d, stride, layout.dim - d);
  }
}

template <typename T, int kVectors>
TITAN_INLINE void AddOuterProductsPart(const T* weights, const T* x, const Layout<T> layout, const Tile tile, T* rows) {
  Vector<T> own[kQueries][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kQueries; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) own[r][v] = Load(x + r * layout.padded_dim + v * Simd<T>::kLanes);
  }
  for (int64_t j = tile.low; j < tile.high; ++j) {
    T* row = rows + j * layout.padded_dim;
    Vector<T> sum[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[v] = Load(row + v * Simd<T>::kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r) {
      const T weight = weights[r * layout.score_stride + j];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[v] += weight * own[r][v];
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(row + v * Simd<T>::kLanes, sum[v]);
  }
}

// rows[j] += sum over r of weights[r][j] x[r], for the tile's keys. x (kQueries, padded_dim), rows (block, padded_dim).
template <typename T>
void AddOuterProducts(const T* weights, const T* x, const Layout<T> layout, const Tile tile, T* rows) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  int64_t d = 0;
  for (; d + kLanes < layout.padded_dim; d += 2 * kLanes) {
    AddOuterProductsPart<T, 2>(weights, x + d, layout, tile, rows + d);
  }
  if (d < layout.padded_dim) AddOuterProductsPart<T, 1>(weights, x + d, layout, tile, rows + d);
}

// Gives the scores of keys that a query does not see the weight 0, in the panels that cover the tile's keys. The query
// is `i` and its first key `first`, counted from the block's first key.
template <typename T>
TITAN_INLINE void Hide(T* scores, int64_t i, int64_t first, const Tile tile) {
  const int64_t end = Layout<T>::RoundUp(tile.high);
  const int64_t begin = tile.low / Simd<T>::kLanes * Simd<T>::kLanes;
  for (int64_t j = begin; j < Min(first, end); ++j) scores[j] = -__builtin_inff();
  for (int64_t j = i + 1; j < end; ++j) scores[j] = -__builtin_inff();
}

// Combines the lanes by f, pairwise; every lane of the result holds it.
template <typename T, typename F>
TITAN_INLINE Vector<T> Reduce(Vector<T> x, const F& f) {
  typename Simd<T>::Index index;
#pragma GCC unroll 8
  for (int width = Simd<T>::kLanes / 2; width > 0; width /= 2) {
#pragma GCC unroll 16
    for (int lane = 0; lane < Simd<T>::kLanes; ++lane) index[lane] = lane ^ width;
    x = f(x, __builtin_shuffle(x, index));
  }
  return x;
}

// scores become powers of two of their distances from the largest; returns the sum and the largest.
template <typename T>
TITAN_INLINE T Exponentiate(T* scores, const Tile tile, T& largest) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  const int64_t begin = tile.low / kLanes * kLanes;
  Vector<T> most = Load(scores + begin);
  for (int64_t j = begin + kLanes; j < tile.high; j += kLanes) {
    const Vector<T> next = Load(scores + j);
    most = next > most ? next : most;
  }
  most = Reduce<T>(most, [](Vector<T> a, Vector<T> b) { return a > b ? a : b; });
  largest = most[0];
  Vector<T> sums{};
  for (int64_t j = begin; j < tile.high; j += kLanes) {
    const Vector<T> power = Exp2(Load(scores + j) - most);
    Store(scores + j, power);
    sums += power;
  }
  return Reduce<T>(sums, [](Vector<T> a, Vector<T> b) { return a + b; })[0];
}

// Row r of the scores becomes probabilities within the block, up to a factor. The normalizer becomes that of all keys
// up to the block's last, and `blend` adds the block's values to the sum over the keys before it.
template <typename T>
TITAN_INLINE void Softmax(T* scores, int64_t r, const Tile tile, bool is_first, T& normalizer, Blend<T>& blend) {
  T largest;
  const T sum = Exponentiate<T>(scores, tile, largest);
  if (is_first) {
    normalizer = largest + Log2(sum);
    blend.scale[r] = 1 / sum;
    return;
  }
  const T top = normalizer > largest ? normalizer : largest;
  const T total = Power2(normalizer - top) + sum * Power2(largest - top);
  blend.scale[r] = Power2(largest - top) / total;
  blend.keep[r] = Power2(normalizer - top) / total;
  normalizer = top + Log2(total);
}

template <typename T>
int64_t ForwardScratch(const AttentionSizes& sizes) {
  const Layout<T> layout(sizes);
  return layout.panels() + layout.rows() + layout.scores() + layout.query_rows();
}

template <typename T>
struct ForwardBuffers {
  ForwardBuffers(const Layout<T>& layout, T* scratch)
      : keys(scratch),
        values(keys + layout.panels()),
        scores(values + layout.rows()),
        queries(scores + layout.scores()) {}

  T* keys;     // panels
  T* values;   // (block, padded_dim)
  T* scores;   // (kQueries, score_stride)
  T* queries;  // (kQueries, padded_dim)
};

template <typename T>
void ForwardTile(const AttentionForwardTask<T>& task, const Layout<T> layout, int64_t head, int64_t block,
                 const Tile tile, const ForwardBuffers<T>& b) {
  const AttentionHeads<const T>& queries = task.queries;
  PackQueries<T>(queries.data + head * queries.head_stride, queries.token_stride, tile,
                 static_cast<T>(task.scale * kLog2E), layout, b.queries);
  DotAll<T>(b.queries, b.keys, layout, tile, b.scores);
  T* normalizer = task.normalizer + head * task.sizes.sequence + tile.begin;
  Blend<T> blend;
  for (int64_t r = 0; r < tile.count; ++r) {
    const int64_t i = tile.begin + r - block, first = task.first_key[tile.begin + r] - block;
    T* scores = b.scores + r * layout.score_stride;
    Hide<T>(scores, i, first, tile);
    // A query whose keys are all in later blocks leaves what they will replace.
    if (first < tile.high) Softmax<T>(scores, r, tile, /*is_first=*/first >= 0, normalizer[r], blend);
  }
  WeightedRows<T>(b.scores, b.values, layout, tile, blend, task.out.data + head * task.out.head_stride,
                  task.out.token_stride);
}

template <typename T>
void Forward(const AttentionForwardTask<T>& task, T* scratch) {
  const Layout<T> layout(task.sizes);
  const ForwardBuffers<T> b(layout, scratch);
  const int64_t sequence = task.sizes.sequence;
  for (int64_t block = 0; block < sequence; block += layout.block) {
    const int64_t size = Min(layout.block, sequence - block);
    const AttentionHeads<const T>&keys = task.keys, &values = task.values;
    PackPanels<T>(keys.data + block * keys.token_stride, keys.token_stride, size, layout, b.keys);
    PackRows<T>(values.data + block * values.token_stride, values.token_stride, size, T(1), layout, b.values);
    for (int64_t head = 0; head < task.sizes.group; ++head) {
      for (int64_t i = block; i < sequence; i += kQueries) {
        const Tile tile = TileOf(task.first_key, sequence, block, size, i);
        if (tile.low < tile.high) ForwardTile<T>(task, layout, head, block, tile, b);
      }
    }
  }
}

template <typename T>
struct BackwardBuffers {
  BackwardBuffers(const Layout<T>& layout, T* scratch)
      : keys(scratch),
        dkeys(keys + layout.rows()),
        dvalues(dkeys + layout.rows()),
        key_panels(dvalues + layout.rows()),
        value_panels(key_panels + layout.panels()),
        probabilities(value_panels + layout.panels()),
        dscores(probabilities + layout.scores()),
        queries(dscores + layout.scores()),
        dout(queries + layout.query_rows()) {}

  T *keys, *dkeys, *dvalues;     // (block, padded_dim)
  T *key_panels, *value_panels;  // panels
  T *probabilities, *dscores;    // (kQueries, score_stride)
  T *queries, *dout;             // (kQueries, padded_dim)
};

template <typename T>
int64_t BackwardScratch(const AttentionSizes& sizes) {
  const Layout<T> layout(sizes);
  return 3 * layout.rows() + 2 * (layout.panels() + layout.scores() + layout.query_rows());
}

// Row r of the probabilities and of dS = P (dP - delta), from the scores and dP that stand there; delta = dout . out.
template <typename T>
TITAN_INLINE void ScoreGradients(T* scores, T* dscores, const Tile tile, T normalizer, T delta) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  for (int64_t j = tile.low / kLanes * kLanes; j < tile.high; j += kLanes) {
    const Vector<T> probability = Exp2(Load(scores + j) - normalizer);
    Store(scores + j, probability);
    Store(dscores + j, probability * (Load(dscores + j) - delta));
  }
}

template <typename T>
TITAN_INLINE T Dot(const T* x, const T* y, int64_t dim) {
  Vector<T> sums{};
  int64_t d = 0;
  for (; d + Simd<T>::kLanes <= dim; d += Simd<T>::kLanes) sums += Load(x + d) * Load(y + d);
  T sum = Reduce<T>(sums, [](Vector<T> a, Vector<T> b) { return a + b; })[0];
  for (; d < dim; ++d) sum += x[d] * y[d];
  return sum;
}

template <typename T>
void BackwardTile(const AttentionBackwardTask<T>& task, const Layout<T> layout, int64_t head, int64_t block,
                  const Tile tile, const BackwardBuffers<T>& b) {
  const auto data_of = [&](const auto& heads) { return heads.data + head * heads.head_stride; };
  PackQueries<T>(data_of(task.queries), task.queries.token_stride, tile, static_cast<T>(task.scale * kLog2E), layout,
                 b.queries);
  PackQueries<T>(data_of(task.dout), task.dout.token_stride, tile, T(1), layout, b.dout);
  DotAll<T>(b.queries, b.key_panels, layout, tile, b.probabilities);
  DotAll<T>(b.dout, b.value_panels, layout, tile, b.dscores);
  Blend<T> blend;
  for (int64_t r = 0; r < tile.count; ++r) {
    const int64_t i = tile.begin + r, first = task.first_key[i] - block;
    T *scores = b.probabilities + r * layout.score_stride, *dscores = b.dscores + r * layout.score_stride;
    const T* out = data_of(task.out) + i * task.out.token_stride;
    Prefetch<T>(out + kRowsAhead * task.out.token_stride, layout.dim);
    const T delta = Dot<T>(b.dout + r * layout.padded_dim, out, layout.dim);
    Hide<T>(scores, i - block, first, tile);
    ScoreGradients<T>(scores, dscores, tile, task.normalizer[head * task.sizes.sequence + i], delta);
    blend.scale[r] = task.scale;
    blend.keep[r] = first < 0 ? 1 : 0;
  }
  WeightedRows<T>(b.dscores, b.keys, layout, tile, blend, data_of(task.dqueries), task.dqueries.token_stride);
  AddOuterProducts<T>(b.probabilities, b.dout, layout, tile, b.dvalues);
  AddOuterProducts<T>(b.dscores, b.queries, layout, tile, b.dkeys);
}

template <typename T>
void Backward(const AttentionBackwardTask<T>& task, T* scratch) {
  const Layout<T> layout(task.sizes);
  const BackwardBuffers<T> b(layout, scratch);
  const int64_t sequence = task.sizes.sequence;
  for (int64_t block = 0; block < sequence; block += layout.block) {
    const int64_t size = Min(layout.block, sequence - block);
    const T* keys = task.keys.data + block * task.keys.token_stride;
    PackRows<T>(keys, task.keys.token_stride, size, T(1), layout, b.keys);
    PackPanels<T>(keys, task.keys.token_stride, size, layout, b.key_panels);
    PackPanels<T>(task.values.data + block * task.values.token_stride, task.values.token_stride, size, layout,
                  b.value_panels);
    Clear<T>(b.dkeys, layout.rows());
    Clear<T>(b.dvalues, layout.rows());
    for (int64_t head = 0; head < task.sizes.group; ++head) {
      for (int64_t i = block; i < sequence; i += kQueries) {
        const Tile tile = TileOf(task.first_key, sequence, block, size, i);
        if (tile.low < tile.high) BackwardTile<T>(task, layout, head, block, tile, b);
      }
    }
    for (int64_t j = 0; j < size; ++j) {
      // The queries held log2(e), which the gradient does not.
      ScaleRow<T>(b.dkeys + j * layout.padded_dim, static_cast<T>(kLn2), layout.dim,
                  task.dkeys.data + (block + j) * task.dkeys.token_stride);
      ScaleRow<T>(b.dvalues + j * layout.padded_dim, T(1), layout.dim,
                  task.dvalues.data + (block + j) * task.dvalues.token_stride);
    }
  }
}

template <typename T>
constexpr AttentionTiles<T> kTiles = {ForwardScratch<T>, Forward<T>, BackwardScratch<T>, Backward<T>};

}  // namespace

const AttentionTiles<float> kAttentionTiles = kTiles<float>;
#if !defined(__AVX2__)
const AttentionTiles<double> kAttentionTilesDouble = kTiles<double>;
#endif

}  // namespace titan::TITAN_SIMD_NAMESPACE
