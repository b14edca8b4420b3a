// Compiled for each instruction set, with TITAN_SIMD_NAMESPACE defined: attention_tiles.h says what must not be here.
//
// Queries are taken kQueries at a time. Their scores with the keys that any of them sees are a matrix that stays in the
// nearest cache, and every product that makes or uses it keeps its sums in registers:
//
//   scores = queries keys^T    P = softmax(scores)    out = P values
//   dP = dout values^T    dS = P (dP - delta)    dqueries = dS keys    dvalues += P^T dout    dkeys += dS^T queries

#include "kernels/attention_tiles.h"

#include "kernels/vectors.h"

namespace titan::TITAN_SIMD_NAMESPACE {
namespace {

// With two vectors of sums for each: half of the registers.
constexpr int kQueries = kVectorBytes == 64 ? 8 : 4;

constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;

TITAN_INLINE int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
TITAN_INLINE int64_t Max(int64_t a, int64_t b) { return a > b ? a : b; }

// Keys of a block: its packed forms stay in the second-level cache while all queries pass.
constexpr int64_t kBlockElements = 32 * 1024;

// Packed matrices have rows of whole vectors and as many rows as a block has keys.
template <typename T>
struct Layout {
  explicit Layout(const AttentionSizes& sizes)
      : dim(sizes.dim),
        padded_dim(RoundUp(dim)),
        block(Min(RoundUp(sizes.keys), RoundUp(kBlockElements / dim + kQueries))),
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
template <typename T>
TITAN_INLINE Tile TileOf(const AttentionInputs<T>& in, int64_t block, int64_t size, int64_t begin) {
  Tile tile{.begin = begin, .count = Min(kQueries, in.sizes.queries - begin), .low = size, .high = 0};
  for (int64_t i = begin; i < begin + tile.count; ++i) {
    const int64_t first = in.first_key[i] - block, end = in.end_key[i] - block;
    if (first >= end) continue;
    tile.low = Min(tile.low, first);
    tile.high = Max(tile.high, end);
  }
  tile.low = Max(tile.low, 0);
  tile.high = Min(tile.high, size);
  return tile;
}

// The keys of a block that one query of a tile sees, counted like the tile's.
struct Visible {
  int64_t first, end;
  bool any;    // some of the tile's keys
  bool later;  // not the first keys that the query sees: something stands in its row already
};

template <typename T>
TITAN_INLINE Visible VisibleTo(const AttentionInputs<T>& in, int64_t block, const Tile tile, int64_t query) {
  const int64_t first = in.first_key[query] - block, end = in.end_key[query] - block;
  return {.first = first, .end = end, .any = Max(first, 0) < Min(end, tile.high), .later = first < 0};
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

// The panels that cover the tile's keys, as a range of keys.
template <typename T>
TITAN_INLINE int64_t PanelsBegin(const Tile tile) {
  return tile.low / Simd<T>::kLanes * Simd<T>::kLanes;
}

template <typename T>
TITAN_INLINE int64_t PanelsEnd(const Tile tile) {
  return Layout<T>::RoundUp(tile.high);
}

// Gives the scores of keys that a query does not see the weight 0.
template <typename T>
TITAN_INLINE void Hide(T* scores, const Visible& visible, const Tile tile) {
  const int64_t end = PanelsEnd<T>(tile);
  for (int64_t j = PanelsBegin<T>(tile); j < Min(visible.first, end); ++j) scores[j] = -__builtin_inff();
  for (int64_t j = visible.end; j < end; ++j) scores[j] = -__builtin_inff();
}

// Weights of a query that sees none of the tile's keys.
template <typename T>
TITAN_INLINE void ClearWeights(T* weights, const Tile tile) {
  Clear<T>(weights + PanelsBegin<T>(tile), PanelsEnd<T>(tile) - PanelsBegin<T>(tile));
}

// scores become powers of two of their distances from the largest; returns the sum and the largest.
template <typename T>
TITAN_INLINE T Exponentiate(T* scores, const Tile tile, T& largest) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  const int64_t begin = PanelsBegin<T>(tile);
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
  const AttentionInputs<T>& in = task.in;
  PackQueries<T>(in.queries.data + head * in.queries.head_stride, in.queries.token_stride, tile,
                 static_cast<T>(in.scale * kLog2E), layout, b.queries);
  DotAll<T>(b.queries, b.keys, layout, tile, b.scores);
  T* normalizer = task.normalizer + head * in.sizes.queries + tile.begin;
  Blend<T> blend;
  for (int64_t r = 0; r < tile.count; ++r) {
    const Visible visible = VisibleTo<T>(in, block, tile, tile.begin + r);
    T* scores = b.scores + r * layout.score_stride;
    if (visible.any) {
      Hide<T>(scores, visible, tile);
      Softmax<T>(scores, r, tile, /*is_first=*/!visible.later, normalizer[r], blend);
    } else {
      ClearWeights<T>(scores, tile);
      blend.keep[r] = visible.later ? 1 : 0;
    }
  }
  WeightedRows<T>(b.scores, b.values, layout, tile, blend, task.out.data + head * task.out.head_stride,
                  task.out.token_stride);
}

// The rows of queries that see no key.
template <typename T>
void ClearBlindRows(const AttentionInputs<T>& in, const AttentionHeads<T>& rows) {
  for (int64_t i = 0; i < in.sizes.queries; ++i) {
    if (in.first_key[i] < in.end_key[i]) continue;
    for (int64_t head = 0; head < in.sizes.group; ++head) {
      Clear<T>(rows.data + head * rows.head_stride + i * rows.token_stride, in.sizes.dim);
    }
  }
}

template <typename T>
void Forward(const AttentionForwardTask<T>& task, T* scratch) {
  const AttentionInputs<T>& in = task.in;
  const Layout<T> layout(in.sizes);
  const ForwardBuffers<T> b(layout, scratch);
  ClearBlindRows<T>(in, task.out);
  for (int64_t i = 0; i < in.sizes.queries; ++i) {
    if (in.first_key[i] < in.end_key[i]) continue;
    for (int64_t head = 0; head < in.sizes.group; ++head) {
      task.normalizer[head * in.sizes.queries + i] = -__builtin_inff();
    }
  }
  for (int64_t block = 0; block < in.sizes.keys; block += layout.block) {
    const int64_t size = Min(layout.block, in.sizes.keys - block);
    PackPanels<T>(in.keys.data + block * in.keys.token_stride, in.keys.token_stride, size, layout, b.keys);
    PackRows<T>(in.values.data + block * in.values.token_stride, in.values.token_stride, size, T(1), layout, b.values);
    for (int64_t head = 0; head < in.sizes.group; ++head) {
      for (int64_t i = 0; i < in.sizes.queries; i += kQueries) {
        const Tile tile = TileOf<T>(in, block, size, i);
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
  for (int64_t j = PanelsBegin<T>(tile); j < tile.high; j += kLanes) {
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
  const AttentionInputs<T>& in = task.in;
  const auto data_of = [&](const auto& heads) { return heads.data + head * heads.head_stride; };
  PackQueries<T>(data_of(in.queries), in.queries.token_stride, tile, static_cast<T>(in.scale * kLog2E), layout,
                 b.queries);
  PackQueries<T>(data_of(task.dout), task.dout.token_stride, tile, T(1), layout, b.dout);
  DotAll<T>(b.queries, b.key_panels, layout, tile, b.probabilities);
  DotAll<T>(b.dout, b.value_panels, layout, tile, b.dscores);
  Blend<T> blend;
  for (int64_t r = 0; r < tile.count; ++r) {
    const int64_t i = tile.begin + r;
    const Visible visible = VisibleTo<T>(in, block, tile, i);
    T *scores = b.probabilities + r * layout.score_stride, *dscores = b.dscores + r * layout.score_stride;
    const T* out = data_of(task.out) + i * task.out.token_stride;
    Prefetch<T>(out + kRowsAhead * task.out.token_stride, layout.dim);
    if (visible.any) {
      const T delta = Dot<T>(b.dout + r * layout.padded_dim, out, layout.dim);
      Hide<T>(scores, visible, tile);
      ScoreGradients<T>(scores, dscores, tile, task.normalizer[head * in.sizes.queries + i], delta);
    } else {
      ClearWeights<T>(scores, tile);
      ClearWeights<T>(dscores, tile);
    }
    blend.scale[r] = in.scale;
    blend.keep[r] = visible.later ? 1 : 0;
  }
  WeightedRows<T>(b.dscores, b.keys, layout, tile, blend, data_of(task.dqueries), task.dqueries.token_stride);
  AddOuterProducts<T>(b.probabilities, b.dout, layout, tile, b.dvalues);
  AddOuterProducts<T>(b.dscores, b.queries, layout, tile, b.dkeys);
}

template <typename T>
void Backward(const AttentionBackwardTask<T>& task, T* scratch) {
  const AttentionInputs<T>& in = task.in;
  const Layout<T> layout(in.sizes);
  const BackwardBuffers<T> b(layout, scratch);
  ClearBlindRows<T>(in, task.dqueries);
  for (int64_t block = 0; block < in.sizes.keys; block += layout.block) {
    const int64_t size = Min(layout.block, in.sizes.keys - block);
    const T* keys = in.keys.data + block * in.keys.token_stride;
    PackRows<T>(keys, in.keys.token_stride, size, T(1), layout, b.keys);
    PackPanels<T>(keys, in.keys.token_stride, size, layout, b.key_panels);
    PackPanels<T>(in.values.data + block * in.values.token_stride, in.values.token_stride, size, layout,
                  b.value_panels);
    Clear<T>(b.dkeys, layout.rows());
    Clear<T>(b.dvalues, layout.rows());
    for (int64_t head = 0; head < in.sizes.group; ++head) {
      for (int64_t i = 0; i < in.sizes.queries; i += kQueries) {
        const Tile tile = TileOf<T>(in, block, size, i);
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
