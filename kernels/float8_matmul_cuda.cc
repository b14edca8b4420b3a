#include "kernels/float8_matmul_cuda.h"

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/empty.h>
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>

namespace titan::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

void Check(cublasStatus_t status, const char* what) {
  TORCH_CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: ", what, ": ", cublasLtGetStatusString(status));
}

template <typename T, cublasStatus_t (*kDestroy)(T)>
struct Destroy {
  void operator()(T object) const { kDestroy(object); }
};
template <typename T, cublasStatus_t (*kDestroy)(T)>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, Destroy<T, kDestroy>>;
using Descriptor = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t TypeOf(Float8Kind kind) { return kind == Float8Kind::kE4m3 ? CUDA_R_8F_E4M3 : CUDA_R_8F_E5M2; }
cudaDataType_t TypeOf(Element element) { return element == Element::kFloat ? CUDA_R_32F : CUDA_R_16BF; }

// cuBLASLt sees columns where these are rows: what it computes is out^T = b a^T, with b as its first factor.
class Matmul {
 public:
  explicit Matmul(const Float8MatmulArguments& a) : arguments_(a) {
    cublasLtMatmulDesc_t descriptor = nullptr;
    Check(cublasLtMatmulDescCreate(&descriptor, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
    descriptor_.reset(descriptor);
    Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    Set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
    Set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<int8_t>(a.fast_accumulation));
    const int32_t mode =
        a.has_row_scales ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F : CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
    Set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode);
    Set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode);
    Set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, a.b.inverse_scale);
    Set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, a.a.inverse_scale);
    first_ = NewLayout(TypeOf(a.b.kind), a.k, a.n);
    second_ = NewLayout(TypeOf(a.a.kind), a.k, a.m);
    out_ = NewLayout(TypeOf(a.out_element), a.n, a.m);
  }

  // Empty if there is none.
  std::optional<cublasLtMatmulAlgo_t> FindAlgorithm(cublasLtHandle_t handle) const {
    cublasLtMatmulPreference_t created = nullptr;
    Check(cublasLtMatmulPreferenceCreate(&created), "preference");
    const Preference preference(created);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      Check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)), "preference");
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, AlignmentOf(arguments_.b.values));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, AlignmentOf(arguments_.a.values));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, AlignmentOf(arguments_.out));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, AlignmentOf(arguments_.out));
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, descriptor_.get(), first_.get(), second_.get(), out_.get(), out_.get(),
                                       preference.get(), 1, &result, &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && found == 0)) return std::nullopt;
    Check(status, "choice of a kernel");
    return result.algo;
  }

  void Run(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm, Stream stream) const {
    const at::Tensor workspace =
        at::empty({static_cast<int64_t>(kWorkspaceBytes)}, at::TensorOptions(at::kByte).device(at::kCUDA));
    const float alpha = 1, beta = arguments_.adds ? 1 : 0;
    Check(cublasLtMatmul(handle, descriptor_.get(), &alpha, arguments_.b.values, first_.get(), arguments_.a.values,
                         second_.get(), &beta, arguments_.out, out_.get(), arguments_.out, out_.get(), &algorithm,
                         workspace.mutable_data_ptr(), kWorkspaceBytes, stream),
          "product");
  }

  // Of a pointer, in bytes: what the kernel may count on.
  static uint32_t AlignmentOf(const void* pointer) {
    uint32_t alignment = 256;
    while (reinterpret_cast<uintptr_t>(pointer) % alignment != 0) alignment /= 2;
    return alignment;
  }

 private:
  template <typename T>
  void Set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    Check(cublasLtMatmulDescSetAttribute(descriptor_.get(), attribute, &value, sizeof(value)), "attribute");
  }

  // Of `columns` vectors of `rows` elements.
  static Layout NewLayout(cudaDataType_t type, int64_t rows, int64_t columns) {
    cublasLtMatrixLayout_t layout = nullptr;
    Check(cublasLtMatrixLayoutCreate(&layout, type, rows, columns, rows), "layout");
    return Layout(layout);
  }

  const Float8MatmulArguments& arguments_;
  Descriptor descriptor_;
  Layout first_, second_, out_;
};

// What the choice of a kernel depends on. A choice takes the host longer than a small product takes the GPU.
using Key = std::array<int64_t, 12>;

Key KeyOf(const Float8MatmulArguments& a, cublasLtHandle_t handle) {
  return {static_cast<int64_t>(reinterpret_cast<intptr_t>(handle)),
          a.m,
          a.n,
          a.k,
          static_cast<int64_t>(a.a.kind),
          static_cast<int64_t>(a.b.kind),
          static_cast<int64_t>(a.out_element),
          a.has_row_scales,
          a.fast_accumulation,
          Matmul::AlignmentOf(a.a.values),
          Matmul::AlignmentOf(a.b.values),
          Matmul::AlignmentOf(a.out)};
}

std::optional<cublasLtMatmulAlgo_t> AlgorithmFor(const Float8MatmulArguments& arguments, const Matmul& matmul,
                                                 cublasLtHandle_t handle) {
  static std::mutex& mutex = *new std::mutex();  // autograd's thread multiplies, too
  static auto& known = *new std::map<Key, std::optional<cublasLtMatmulAlgo_t>>();
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [entry, is_new] = known.try_emplace(KeyOf(arguments, handle));
  if (is_new) entry->second = matmul.FindAlgorithm(handle);
  return entry->second;
}

}  // namespace

bool Float8Matmul(const Float8MatmulArguments& arguments, Stream stream) {
  const cublasLtHandle_t handle = at::cuda::getCurrentCUDABlasLtHandle();
  const Matmul matmul(arguments);
  const std::optional<cublasLtMatmulAlgo_t> algorithm = AlgorithmFor(arguments, matmul, handle);
  if (algorithm.has_value()) matmul.Run(handle, *algorithm, stream);
  return algorithm.has_value();
}

}  // namespace titan::cuda
