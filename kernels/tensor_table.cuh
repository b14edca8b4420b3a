// Launches of one kernel over many tensors of different sizes: a table that travels with the kernel's parameters says
// which tensor a block works on.

#ifndef TITAN_KERNELS_TENSOR_TABLE_CUH_
#define TITAN_KERNELS_TENSOR_TABLE_CUH_

#include <algorithm>
#include <cstdint>

namespace titan::cuda {

template <typename Tensor, int kMaxTensors>
struct TensorTable {
  Tensor tensors[kMaxTensors];
  int first_block[kMaxTensors];  // of each tensor; ascending
  int count;

  // Of this block's tensor: the last one that does not begin behind the block.
  __device__ int Index() const {
    const int block = static_cast<int>(blockIdx.x);
    int low = 0, high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first_block[middle] <= block ? low : high) = middle;
    }
    return low;
  }
  // Of this block among those of its tensor.
  __device__ int64_t Chunk(int index) const { return static_cast<int>(blockIdx.x) - first_block[index]; }
};

// Calls launch(table, blocks) until all tensors that are not empty have been in a table. num_blocks(size) says how many
// blocks a tensor of so many elements gets.
template <int kMaxTensors, typename Tensor, typename NumBlocks, typename Launch>
void ForEachTable(const Tensor* tensors, int64_t count, const NumBlocks& num_blocks, const Launch& launch) {
  for (int64_t begin = 0; begin < count; begin += kMaxTensors) {
    TensorTable<Tensor, kMaxTensors> table;
    table.count = 0;
    unsigned blocks = 0;
    for (int64_t i = begin; i < std::min<int64_t>(begin + kMaxTensors, count); ++i) {
      if (tensors[i].size == 0) continue;
      table.tensors[table.count] = tensors[i];
      table.first_block[table.count] = static_cast<int>(blocks);
      ++table.count;
      blocks += static_cast<unsigned>(num_blocks(tensors[i].size));
    }
    if (blocks > 0) launch(table, blocks);
  }
}

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_TENSOR_TABLE_CUH_
