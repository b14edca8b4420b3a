// How far two checkpoints are from each other, tensor by tensor, whatever layouts have written them.
//
//   TITAN_ASSIGN_OR_RETURN(const TensorSource left, OpenTensorSource("a/checkpoint/step-500"));
//   TITAN_ASSIGN_OR_RETURN(const TensorSource right, OpenTensorSource("/models/mine"));  // a Hugging Face folder
//   TITAN_ASSIGN_OR_RETURN(const Comparison comparison, Compare(left, right));

#ifndef TITAN_CHECKPOINT_COMPARE_H_
#define TITAN_CHECKPOINT_COMPARE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace titan {

// The tensors of a checkpoint, under the names that steps have for them ("model.norm.weight").
struct TensorSource {
  std::map<std::string, std::vector<int64_t>> shapes;  // by name
  std::function<absl::StatusOr<at::Tensor>(const std::string& name)> load;
  bool model_alone = false;  // there can be no state of an optimizer
};

// A step-N folder, or a Hugging Face folder. Errors as OpenCheckpoint and OpenHf.
absl::StatusOr<TensorSource> OpenTensorSource(const std::string& path);

struct TensorDistance {
  std::string name;
  std::vector<int64_t> left_shape, right_shape;
  // Infinite if the shapes differ, or one has a NaN or an infinity where the other has something else.
  double max_abs = 0;      // the largest |left - right| of an element
  double relative_l2 = 0;  // |left - right| / |left|, 2-norms; infinite if left is zero
};

struct Comparison {
  std::vector<TensorDistance> different;  // the largest relative distance first, then by name
  std::vector<std::string> only_left, only_right;
  int64_t num_equal = 0;

  bool is_equal() const { return different.empty() && only_left.empty() && only_right.empty(); }
};

// Values count, not dtypes: 1.5 in bfloat16 is 1.5 in float32, a NaN is any other. If one side is a model alone, so is
// what of the other is looked at. Two tensors are in memory at a time.
absl::StatusOr<Comparison> Compare(const TensorSource& left, const TensorSource& right);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_COMPARE_H_
