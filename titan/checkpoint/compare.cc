#include "titan/checkpoint/compare.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/hf.h"
#include "titan/checkpoint/store.h"

namespace titan {
namespace {

constexpr char kModelPrefix[] = "model.";
constexpr int64_t kChunk = 1 << 20;  // elements that are compared in doubles at a time
constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool IsSame(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Sets the distances of two tensors of one shape; whether they are equal.
bool Measure(const at::Tensor& left, const at::Tensor& right, TensorDistance& distance) {
  const at::Tensor a = left.contiguous().view({-1}), b = right.contiguous().view({-1});
  double difference_squares = 0, left_squares = 0;
  for (int64_t begin = 0; begin < a.numel(); begin += kChunk) {
    const int64_t count = std::min(kChunk, a.numel() - begin);
    const at::Tensor x = a.narrow(0, begin, count).to(at::kDouble), y = b.narrow(0, begin, count).to(at::kDouble);
    const double *x_data = x.const_data_ptr<double>(), *y_data = y.const_data_ptr<double>();
    for (int64_t i = 0; i < count; ++i) {
      left_squares += x_data[i] * x_data[i];
      if (IsSame(x_data[i], y_data[i])) continue;
      const double difference = std::abs(x_data[i] - y_data[i]);
      distance.max_abs = std::max(distance.max_abs, std::isnan(difference) ? kInfinity : difference);
      difference_squares += difference * difference;
    }
  }
  if (distance.max_abs == 0) return true;
  distance.relative_l2 = std::sqrt(difference_squares / left_squares);
  if (std::isnan(distance.relative_l2)) distance.relative_l2 = kInfinity;
  return false;
}

absl::StatusOr<TensorSource> OpenHfSource(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(HfCheckpoint opened, OpenHf(path));
  auto checkpoint = std::make_shared<const HfCheckpoint>(std::move(opened));
  TensorSource source;
  source.model_alone = true;
  for (const BlockSpec& block : checkpoint->spec().blocks) {
    for (const ParameterSpec& parameter : block.parameters) {
      source.shapes[kModelPrefix + parameter.name] = parameter.shape;
    }
  }
  source.load = [checkpoint](const std::string& name) {
    return checkpoint->Load(name.substr(sizeof(kModelPrefix) - 1), at::kDouble);
  };
  return source;
}

}  // namespace

absl::StatusOr<TensorSource> OpenTensorSource(const std::string& path) {
  if (std::filesystem::exists(path + "/config.json")) return OpenHfSource(path);
  TITAN_ASSIGN_OR_RETURN(Checkpoint opened, OpenCheckpoint(path));
  auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  TensorSource source;
  for (const auto& [name, tensor] : checkpoint->index().tensors) source.shapes[name] = tensor.shape;
  source.load = [checkpoint](const std::string& name) { return checkpoint->Load(name); };
  return source;
}

absl::StatusOr<Comparison> Compare(const TensorSource& left, const TensorSource& right) {
  const bool model_alone = left.model_alone || right.model_alone;
  const auto counts = [&](const std::string& name) { return !model_alone || absl::StartsWith(name, kModelPrefix); };
  Comparison comparison;
  for (const auto& [name, shape] : right.shapes) {
    if (counts(name) && left.shapes.count(name) == 0) comparison.only_right.push_back(name);
  }
  for (const auto& [name, shape] : left.shapes) {
    if (!counts(name)) continue;
    const auto found = right.shapes.find(name);
    if (found == right.shapes.end()) {
      comparison.only_left.push_back(name);
      continue;
    }
    TensorDistance distance{.name = name, .left_shape = shape, .right_shape = found->second};
    if (shape == found->second) {
      TITAN_ASSIGN_OR_RETURN(const at::Tensor a, left.load(name));
      TITAN_ASSIGN_OR_RETURN(const at::Tensor b, right.load(name));
      if (Measure(a, b, distance)) {
        ++comparison.num_equal;
        continue;
      }
    } else {
      distance.max_abs = distance.relative_l2 = kInfinity;
    }
    comparison.different.push_back(std::move(distance));
  }
  std::sort(comparison.different.begin(), comparison.different.end(),
            [](const TensorDistance& a, const TensorDistance& b) {
              return std::make_tuple(-a.relative_l2, a.name) < std::make_tuple(-b.relative_l2, b.name);
            });
  return comparison;
}

}  // namespace titan
