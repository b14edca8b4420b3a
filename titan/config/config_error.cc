#include "titan/config/config_error.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace titan {
namespace {

bool IsSameOrBelow(std::string_view path, std::string_view ancestor) {
  return path.substr(0, ancestor.size()) == ancestor &&
         (ancestor.empty() || path.size() == ancestor.size() || path[ancestor.size()] == '.');
}

}  // namespace

bool ConfigErrors::Concerns(std::string_view path) const {
  return std::any_of(errors_.begin(), errors_.end(), [&](const ConfigError& error) {
    return IsSameOrBelow(error.path, path) || IsSameOrBelow(path, error.path);
  });
}

std::string JoinPath(std::string_view parent, std::string_view child) {
  return parent.empty() ? std::string(child) : absl::StrCat(parent, ".", child);
}

}  // namespace titan
