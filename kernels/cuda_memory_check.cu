// Runs every kernel of this folder over sizes that reach each of its paths, for compute-sanitizer to look at. It links
// no LibTorch, whose libraries start CUDA before the tool does.
//
//   compute-sanitizer --tool memcheck|racecheck|initcheck --error-exitcode 1 cuda_memory_check
//
// Each tensor is an allocation of its own, so that an access beyond its end is one. Values are checked by the
// operators' tests; here nothing is printed but the last line.

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/adamw_cuda.h"
#include "kernels/embedding_cuda.h"
#include "kernels/float8_cuda.h"
#include "kernels/global_norm_cuda.h"
#include "kernels/linear_cross_entropy_cuda.h"
#include "kernels/rms_norm_cuda.h"
#include "kernels/rope_cuda.h"
#include "kernels/swiglu_cuda.h"

namespace titan::cuda {
namespace {

constexpr Stream kStream = nullptr;
constexpr Element kElements[] = {Element::kFloat, Element::kDouble, Element::kBFloat16};

void Check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "cuda_memory_check: %s\n", cudaGetErrorString(error));
  std::exit(2);
}

int64_t SizeOf(Element element) { return element == Element::kDouble ? 8 : element == Element::kFloat ? 4 : 2; }
int64_t AccumulatorSizeOf(Element element) { return element == Element::kDouble ? 8 : 4; }

// Memory of the device; an input is zeroed, so that initcheck sees only reads of what a kernel should have written.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    Check(cudaDeviceSynchronize());
    for (void* pointer : pointers_) Check(cudaFree(pointer));
  }
  // `offset` bytes behind an aligned beginning.
  char* Output(int64_t bytes, int64_t offset = 0) {
    void* pointer = nullptr;
    Check(cudaMalloc(&pointer, bytes + offset));
    pointers_.push_back(pointer);
    return static_cast<char*>(pointer) + offset;
  }
  char* Input(int64_t bytes, int64_t offset = 0) {
    char* const pointer = Output(bytes, offset);
    Check(cudaMemset(pointer, 0, bytes));
    return pointer;
  }

 private:
  std::vector<void*> pointers_;
};

// Aligned and not.
template <typename F>
void ForEachAlignment(Element element, const F& run) {
  for (const int64_t offset : {int64_t{0}, SizeOf(element)}) run(offset);
}

void Norms(Element element, int64_t rows, int64_t dim) {
  ForEachAlignment(element, [&](int64_t offset) {
    for (const bool adds : {false, true}) {
      Memory m;
      const int64_t bytes = rows * dim * SizeOf(element), wide = AccumulatorSizeOf(element);
      void* const inverse_rms = m.Output(rows * wide);
      void* const sum = adds ? m.Output(bytes, offset) : nullptr;
      const void *const x = m.Input(bytes, offset), *const weight = m.Input(dim * SizeOf(element));
      RmsNormForward({element, rows, dim, x, adds ? m.Input(bytes, offset) : nullptr, weight, 1e-5, sum,
                      m.Output(bytes, offset), inverse_rms},
                     kStream);
      RmsNormBackward({element, rows, dim, adds ? sum : x, weight, inverse_rms, m.Input(bytes, offset),
                       adds ? m.Input(bytes, offset) : nullptr, m.Output(bytes, offset),
                       m.Output(kRmsNormPartials * dim * wide), m.Output(dim * SizeOf(element))},
                      kStream);
    }
  });
}

void Gates(Element element, int64_t size) {
  ForEachAlignment(element, [&](int64_t offset) {
    Memory m;
    const int64_t bytes = size * SizeOf(element);
    const void *const gate = m.Input(bytes, offset), *const up = m.Input(bytes, offset);
    SwiGluForward(element, gate, up, size, m.Output(bytes, offset), kStream);
    SwiGluBackward(element, gate, up, m.Input(bytes, offset), size, m.Output(bytes, offset), m.Output(bytes, offset),
                   kStream);
  });
}

void Rotations(Element element, int64_t dim) {
  constexpr int64_t kBatch = 2, kSequence = 21, kHeads = 3;
  for (const bool inverse : {false, true}) {
    Memory m;
    const int64_t bytes = kBatch * kSequence * kHeads * dim * SizeOf(element);
    const int64_t table = kBatch * kSequence * dim / 2 * AccumulatorSizeOf(element);
    Rope({element, kBatch, kSequence, kHeads, dim, kSequence * kHeads * dim, kHeads * dim, dim, m.Input(bytes),
          m.Input(table), m.Input(table), inverse, m.Output(bytes)},
         kStream);
  }
}

void Losses(Element element, int64_t rows, int64_t vocab) {
  ForEachAlignment(element, [&](int64_t offset) {
    for (const bool gradient : {false, true}) {
      Memory m;
      CrossEntropyRows(element, m.Input(rows * vocab * SizeOf(element), offset),
                       reinterpret_cast<int64_t*>(m.Input(rows * 8)), rows, vocab, gradient,
                       gradient ? reinterpret_cast<double*>(m.Input(8)) : nullptr,
                       reinterpret_cast<double*>(m.Output(rows * 8)), kStream);
    }
  });
}

// Lists that need several launches, too.
void Lists(Element element, int64_t count, int64_t size) {
  Memory m;
  const int64_t bytes = size * SizeOf(element);
  std::vector<AdamWTensor> tensors;
  std::vector<NormTensor> norms;
  for (int64_t i = 0; i < count; ++i) {
    tensors.push_back({m.Input(bytes), m.Input(bytes), m.Input(bytes), m.Input(bytes),
                       i % 2 == 0 ? m.Output(size * 2) : nullptr, size});
    norms.push_back({tensors.back().gradient, size});
  }
  if (element != Element::kBFloat16) AdamWStep(element, element, tensors.data(), count, {.eps = 1e-8}, kStream);
  if (element == Element::kFloat) {
    for (AdamWTensor& tensor : tensors) tensor.exp_avg = m.Input(size * 2), tensor.exp_avg_sq = m.Input(size * 2);
    AdamWStep(element, Element::kBFloat16, tensors.data(), count, {.eps = 1e-8}, kStream);
  }
  GlobalNorm(element, norms.data(), count, reinterpret_cast<double*>(m.Output(count * NumNormPartials(size) * 8)),
             reinterpret_cast<double*>(m.Output(8)), kStream);
}

// `count` rows, all of one index.
void Embeddings(Element element, int64_t count, int64_t dim) {
  ForEachAlignment(element, [&](int64_t offset) {
    Memory m;
    AddEmbeddingGradient(
        {element, reinterpret_cast<int64_t*>(m.Input(count * 8)), reinterpret_cast<int64_t*>(m.Input(count * 8)), count,
         m.Input(count * dim * SizeOf(element), offset), dim, m.Input(dim * AccumulatorSizeOf(element))},
        kStream);
  });
}

void Float8(Element element, int64_t rows, int64_t columns) {
  if (element == Element::kDouble) return;
  Memory m;
  const void* const x = m.Input(rows * columns * SizeOf(element));
  float* const largest = reinterpret_cast<float*>(m.Output(4));
  Check(cudaMemsetAsync(largest, 0, 4, kStream));
  AddLargestMagnitude(element, x, rows * columns, largest, kStream);
  for (const Float8Kind kind : {Float8Kind::kE4m3, Float8Kind::kE5m2}) {
    Quantize({element, kind, rows, columns, x, largest, m.Output(rows * columns), m.Output(rows * columns),
              reinterpret_cast<float*>(m.Output(4))},
             kStream);
  }
  void* const values = m.Output(rows * columns);
  QuantizeFlat(element, x, rows * columns, largest, values, kStream);
  QuantizeRows({element, rows, columns, x, reinterpret_cast<float*>(m.Output((rows + columns) * 4)), values,
                m.Output(rows * columns), reinterpret_cast<float*>(m.Output(rows * 4)),
                reinterpret_cast<float*>(m.Output(columns * 4))},
               kStream);
  TransposeBytes(values, rows, columns, m.Output(rows * columns), kStream);
}

void Main() {
  for (const Element element : kElements) {
    for (const int64_t dim : {7, 64, 2048, 4096, 16384, 40000}) Norms(element, 5, dim);
    Norms(element, 300, 256);
    for (const int64_t size : {1, 1000, 4096}) Gates(element, size);
    for (const int64_t dim : {2, 10, 16, 128}) Rotations(element, dim);
    for (const int64_t vocab : {2, 53, 4096, 20001}) Losses(element, 9, vocab);
    for (const int64_t dim : {1, 50, 4096}) Embeddings(element, 11, dim);
    Lists(element, 3, 40001);
    Lists(element, 600, 17);
    for (const int64_t columns : {16, 128, 400}) Float8(element, 48, columns);
  }
  Check(cudaDeviceSynchronize());
  std::printf("cuda_memory_check: every kernel ran\n");
}

}  // namespace
}  // namespace titan::cuda

int main() { titan::cuda::Main(); }
