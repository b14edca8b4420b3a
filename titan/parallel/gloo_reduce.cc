#include "titan/parallel/gloo_reduce.h"

#include <c10/util/BFloat16.h>

#include <algorithm>

#include "absl/log/log.h"

namespace titan {
namespace {

// Sums stay in the first-level cache while all ranks' blocks pass by.
constexpr int64_t kTile = 1024;

template <typename T, typename Sum, ReduceOp kOp>
void Reduce(const std::vector<const void*>& blocks, void* output, int64_t count) {
  Sum sums[kTile];
  for (int64_t begin = 0; begin < count; begin += kTile) {
    const int64_t size = std::min(kTile, count - begin);
    const T* first = static_cast<const T*>(blocks[0]) + begin;
    for (int64_t i = 0; i < size; ++i) sums[i] = static_cast<Sum>(first[i]);
    for (size_t rank = 1; rank < blocks.size(); ++rank) {
      const T* block = static_cast<const T*>(blocks[rank]) + begin;
      if constexpr (kOp == ReduceOp::kSum) {
        for (int64_t i = 0; i < size; ++i) sums[i] += static_cast<Sum>(block[i]);
      } else {  // a NaN stays
        for (int64_t i = 0; i < size; ++i) {
          const Sum value = static_cast<Sum>(block[i]);
          sums[i] = value > sums[i] || value != value ? value : sums[i];
        }
      }
    }
    T* result = static_cast<T*>(output) + begin;
    for (int64_t i = 0; i < size; ++i) result[i] = static_cast<T>(sums[i]);
  }
}

template <typename T, typename Sum>
void Reduce(ReduceOp op, const std::vector<const void*>& blocks, void* output, int64_t count) {
  if (op == ReduceOp::kSum) {
    Reduce<T, Sum, ReduceOp::kSum>(blocks, output, count);
  } else {
    Reduce<T, Sum, ReduceOp::kMax>(blocks, output, count);
  }
}

}  // namespace

void ReduceBlocks(c10::ScalarType type, ReduceOp op, const std::vector<const void*>& blocks, void* output,
                  int64_t count) {
  switch (type) {
    case c10::ScalarType::Float:
      return Reduce<float, float>(op, blocks, output, count);
    case c10::ScalarType::BFloat16:
      return Reduce<c10::BFloat16, float>(op, blocks, output, count);
    case c10::ScalarType::Double:
      return Reduce<double, double>(op, blocks, output, count);
    case c10::ScalarType::Long:
      return Reduce<int64_t, int64_t>(op, blocks, output, count);
    default:
      LOG(FATAL) << "no sum of " << c10::toString(type);
  }
}

}  // namespace titan
