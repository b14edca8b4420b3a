// The CUDA kernel behind kernels/linear_cross_entropy.h: the cross-entropy of logits that are there, row by row.

#ifndef TITAN_KERNELS_LINEAR_CROSS_ENTROPY_CUDA_H_
#define TITAN_KERNELS_LINEAR_CROSS_ENTROPY_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

// titan::kIgnoredLabel, whose header is LibTorch's too.
inline constexpr int64_t kCrossEntropyIgnored = -100;

// losses (rows) = log(sum(exp(logits))) - logits[label], of contiguous logits (rows, vocab) and labels (rows); 0 for an
// ignored label. With `gradient`, logits become softmax - onehot(label), times the value at `scale` unless that is
// null, or zeros for an ignored label. Computes in fp32 (fp64 for fp64), the loss itself from there in fp64. Sums in an
// order that depends on `vocab` and the alignment of `logits` only. A label that is neither ignored nor in [0, vocab)
// gives the loss NaN and the gradient softmax: nothing waits for the device to throw.
void CrossEntropyRows(Element element, void* logits, const int64_t* labels, int64_t rows, int64_t vocab, bool gradient,
                      const double* scale, double* losses, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_LINEAR_CROSS_ENTROPY_CUDA_H_
