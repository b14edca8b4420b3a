#include "tests/convergence/curve.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"

namespace titan {

absl::StatusOr<Curve> ReadCurve(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.size() != 1 || !json.contains("loss") || !json["loss"].is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected {\"loss\": [...]}"));
  }
  Curve curve;
  for (const auto& loss : json["loss"]) {
    if (!loss.is_number() || loss.get<double>() <= 0) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": not a positive number: ", loss.dump()));
    }
    curve.push_back(loss.get<double>());
  }
  return curve;
}

absl::Status WriteCurve(const std::string& path, const Curve& curve) {
  return WriteFileAtomically(path, nlohmann::json{{"loss", curve}}.dump(2) + "\n");
}

absl::StatusOr<Comparison> Compare(const Curve& golden, const Curve& curve) {
  if (golden.size() != curve.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the golden has ", golden.size(), " steps and the run ", curve.size(), ": update the golden"));
  }
  Comparison comparison;
  for (size_t i = 0; i < golden.size(); ++i) {
    double difference = std::abs(curve[i] - golden[i]) / golden[i];
    if (!std::isfinite(difference)) difference = std::numeric_limits<double>::infinity();
    if (difference > comparison.largest || comparison.step == 0) {
      comparison = {difference, static_cast<int64_t>(i) + 1};
    }
  }
  return comparison;
}

}  // namespace titan
