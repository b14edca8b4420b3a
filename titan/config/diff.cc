#include "titan/config/diff.h"

#include <map>
#include <utility>

#include "titan/config/experiment.pb.h"
#include "titan/config/resolved_json.h"

namespace titan {
namespace {

constexpr char kUnset[] = "unset";

using Fields = std::vector<std::pair<std::string, std::string>>;

std::string ValueOr(const std::map<std::string, std::string>& fields, const std::string& path) {
  const auto found = fields.find(path);
  return found == fields.end() ? kUnset : found->second;
}

// All paths of `left` in its order; those that only `right` has stand behind the path that they follow in `right`.
std::vector<std::string> MergedPaths(const Fields& left, const Fields& right) {
  std::map<std::string, std::vector<std::string>> only_right_after;
  const std::map<std::string, std::string> in_left(left.begin(), left.end());
  std::string anchor;
  for (const auto& [path, value] : right) {
    if (in_left.count(path) > 0) {
      anchor = path;
    } else {
      only_right_after[anchor].push_back(path);
    }
  }
  std::vector<std::string> merged = only_right_after[""];
  for (const auto& [path, value] : left) {
    merged.push_back(path);
    const std::vector<std::string>& after = only_right_after[path];
    merged.insert(merged.end(), after.begin(), after.end());
  }
  return merged;
}

}  // namespace

std::vector<FieldDifference> Diff(const config::Experiment& left, const config::Experiment& right) {
  const Fields left_fields = FlattenFields(left);
  const Fields right_fields = FlattenFields(right);
  const std::map<std::string, std::string> left_values(left_fields.begin(), left_fields.end());
  const std::map<std::string, std::string> right_values(right_fields.begin(), right_fields.end());
  std::vector<FieldDifference> differences;
  for (const std::string& path : MergedPaths(left_fields, right_fields)) {
    FieldDifference difference = {path, ValueOr(left_values, path), ValueOr(right_values, path)};
    if (difference.left != difference.right) differences.push_back(std::move(difference));
  }
  return differences;
}

}  // namespace titan
