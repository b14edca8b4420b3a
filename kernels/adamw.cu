#include "kernels/adamw_cuda.h"
#include "kernels/cuda_device.cuh"
#include "kernels/tensor_table.cuh"

namespace titan::cuda {
namespace {

constexpr int kThreads = 256;
// Elements of one tensor that a block updates: many beside its start, few beside a GPU's share of a model.
constexpr int kChunk = 16 * 1024;
// Vectors of each of the four tensors that a thread loads before it uses the first.
constexpr int kUnroll = 2;
// Tensors of one launch, whose table travels with the kernel's parameters: 13 of the 32 kB that there are for them.
constexpr int kMaxTensors = 256;

using Table = TensorTable<AdamWTensor, kMaxTensors>;

// A chunk of one tensor. S is the type of the averages.
template <typename T, typename S>
struct Chunk {
  T* parameter;
  const T* gradient;
  S* exp_avg;
  S* exp_avg_sq;
  __nv_bfloat16* copy;
  int size;
};

template <typename T, typename S>
__device__ Chunk<T, S> ChunkOfBlock(const Table& table) {
  const int index = table.Index();
  const AdamWTensor& tensor = table.tensors[index];
  const int64_t begin = table.Chunk(index) * kChunk;
  auto* const copy = static_cast<__nv_bfloat16*>(tensor.copy);
  return {static_cast<T*>(tensor.parameter) + begin, static_cast<const T*>(tensor.gradient) + begin,
          static_cast<S*>(tensor.exp_avg) + begin,   static_cast<S*>(tensor.exp_avg_sq) + begin,
          copy == nullptr ? nullptr : copy + begin,  static_cast<int>(min(int64_t{kChunk}, tensor.size - begin))};
}

template <typename T, int N>
__device__ bool IsAlignedTo(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % alignof(Vector<T, N>) == 0;
}

template <typename T, typename S, int N>
__device__ bool TakesVectors(const Chunk<T, S>& c) {
  return IsAlignedTo<T, N>(c.parameter) && IsAlignedTo<T, N>(c.gradient) && IsAlignedTo<S, N>(c.exp_avg) &&
         IsAlignedTo<S, N>(c.exp_avg_sq) && IsAlignedTo<__nv_bfloat16, N>(c.copy);
}

template <typename T, typename S>
__device__ void UpdateElement(T& p, T g, S& m, S& v, const AdamWFactors<T>& f) {
  const T gradient = g * f.gradient_scale;
  T first = static_cast<T>(m);
  first += f.one_minus_beta1 * (gradient - first);
  const T second = f.beta2 * static_cast<T>(v) + f.one_minus_beta2 * (gradient * gradient);
  p = f.decay * p - f.step_size * first / (sqrt(second) * f.inverse_correction2 + f.eps);
  m = static_cast<S>(first);
  v = static_cast<S>(second);
}

// Elements [begin, end) of the chunk, N at a time; N divides both.
template <typename T, typename S, int N>
__device__ void Update(const Chunk<T, S>& c, int begin, int end, const AdamWFactors<T>& f) {
  using V = Vector<T, N>;
  using A = Vector<S, N>;
  for (int first = begin + threadIdx.x * N; first < end; first += kUnroll * kThreads * N) {
    V p[kUnroll], g[kUnroll];
    A m[kUnroll], v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = first + u * kThreads * N;
      if (at >= end) break;
      p[u] = *reinterpret_cast<const V*>(c.parameter + at);
      g[u] = *reinterpret_cast<const V*>(c.gradient + at);
      m[u] = *reinterpret_cast<const A*>(c.exp_avg + at);
      v[u] = *reinterpret_cast<const A*>(c.exp_avg_sq + at);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = first + u * kThreads * N;
      if (at >= end) break;
      Vector<__nv_bfloat16, N> copy;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        UpdateElement(p[u].at[i], g[u].at[i], m[u].at[i], v[u].at[i], f);
        // By way of fp32 for fp64 too, as LibTorch rounds.
        copy.at[i] = static_cast<__nv_bfloat16>(static_cast<float>(p[u].at[i]));
      }
      *reinterpret_cast<V*>(c.parameter + at) = p[u];
      *reinterpret_cast<A*>(c.exp_avg + at) = m[u];
      *reinterpret_cast<A*>(c.exp_avg_sq + at) = v[u];
      if (c.copy != nullptr) *reinterpret_cast<Vector<__nv_bfloat16, N>*>(c.copy + at) = copy;
    }
  }
}

template <typename T, typename S>
__global__ void __launch_bounds__(kThreads) AdamWKernel(const __grid_constant__ Table table, AdamWFactors<T> factors) {
  constexpr int N = kVectorSize<T>;
  const Chunk<T, S> chunk = ChunkOfBlock<T, S>(table);
  const int in_vectors = TakesVectors<T, S, N>(chunk) ? chunk.size / N * N : 0;
  Update<T, S, N>(chunk, 0, in_vectors, factors);
  Update<T, S, 1>(chunk, in_vectors, chunk.size, factors);
}

template <typename T, typename S>
void Step(const AdamWTensor* tensors, int64_t count, const AdamWFactors<double>& factors, cudaStream_t stream) {
  const auto num_blocks = [](int64_t size) { return NumBlocks(size, kChunk); };
  ForEachTable<kMaxTensors>(tensors, count, num_blocks, [&](const Table& table, unsigned blocks) {
    AdamWKernel<T, S><<<blocks, kThreads, 0, stream>>>(table, factors.To<T>());
    CheckLaunch("adamw");
  });
}

}  // namespace

void AdamWStep(Element element, Element average, const AdamWTensor* tensors, int64_t count,
               const AdamWFactors<double>& factors, Stream stream) {
  const auto step = element == Element::kDouble     ? Step<double, double>
                    : average == Element::kBFloat16 ? Step<float, __nv_bfloat16>
                                                    : Step<float, float>;
  step(tensors, count, factors, stream);
}

}  // namespace titan::cuda
