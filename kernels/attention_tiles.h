// The inner loops of attention on the CPU (attention_cpu.h), compiled once for each instruction set.
//
//   const AttentionTiles<float>& tiles = BestAttentionTiles<float>();
//   std::vector<float> scratch(tiles.forward_scratch(sizes));
//   tiles.forward(task, scratch.data());
//
// attention_tiles.cc is compiled several times with other compiler flags. A copy of an inline function of the standard
// library or of LibTorch that it emitted could be linked in place of the portable one and stop an older machine; so
// neither these two files nor what they include use any.

#ifndef TITAN_KERNELS_ATTENTION_TILES_H_
#define TITAN_KERNELS_ATTENTION_TILES_H_

#include <cstdint>

namespace titan {

struct AttentionSizes {
  int64_t queries, keys;  // of a row
  int64_t group;          // query heads that share a key head
  int64_t dim;            // elements of a head
};

// A head of one row of the batch, or a group of heads: element d of token i of head h is at
// data[h * head_stride + i * token_stride + d].
template <typename T>
struct AttentionHeads {
  T* data;
  int64_t head_stride, token_stride;
};

// One key head of one row of the batch with the query heads that use it. Query i sees the keys first_key[i] ..
// end_key[i] - 1, none if there are none.
template <typename T>
struct AttentionInputs {
  AttentionSizes sizes;
  T scale;                                        // of the scores
  const int64_t *first_key, *end_key;             // (queries), in [0, keys]
  AttentionHeads<const T> queries, keys, values;  // group, 1 and 1 heads
};

template <typename T>
struct AttentionForwardTask {
  AttentionInputs<T> in;
  AttentionHeads<T> out;  // group heads; zero where a query sees no key
  T* normalizer;          // (group, queries): base-2 logarithms of the sums of exponentials; -infinity where no key
};

template <typename T>
struct AttentionBackwardTask {
  AttentionInputs<T> in;
  AttentionHeads<const T> out, dout;           // group heads
  const T* normalizer;                         // (group, queries); that of more keys than these, if `out` is
  AttentionHeads<T> dqueries, dkeys, dvalues;  // group, 1 and 1 heads; written, not added to
};

// The loops of one instruction set. `scratch` holds as many elements as the function before it says, in any state.
template <typename T>
struct AttentionTiles {
  int64_t (*forward_scratch)(const AttentionSizes& sizes);
  void (*forward)(const AttentionForwardTask<T>& task, T* scratch);
  int64_t (*backward_scratch)(const AttentionSizes& sizes);
  void (*backward)(const AttentionBackwardTask<T>& task, T* scratch);
};

namespace simd_baseline {
extern const AttentionTiles<float> kAttentionTiles;
extern const AttentionTiles<double> kAttentionTilesDouble;
}  // namespace simd_baseline
namespace simd_avx2 {
extern const AttentionTiles<float> kAttentionTiles;
}  // namespace simd_avx2
namespace simd_avx512 {
extern const AttentionTiles<float> kAttentionTiles;
}  // namespace simd_avx512

}  // namespace titan

#endif  // TITAN_KERNELS_ATTENTION_TILES_H_
