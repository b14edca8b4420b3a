#include "titan/config/schema.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/config/config_error.h"

namespace titan {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;

// Letters and digits in lower case: weightDecay and weight_decay are equal.
std::string Folded(std::string_view name) {
  std::string folded;
  for (const char c : name) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)))
      folded += absl::ascii_tolower(static_cast<unsigned char>(c));
  }
  return folded;
}

// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1), last(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({last[j] + 1, current[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before_last[j - 2] + 1);
      }
    }
    before_last = last;
    last = current;
  }
  return last[b.size()];
}

// The paths of all fields called `name`. The schema is a tree: no message contains itself.
void FindPaths(std::string_view name, const Descriptor& type, const std::string& path,
               std::vector<std::string>& found) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_repeated() && field.message_type() != nullptr) continue;
    const std::string field_path = JoinPath(path, field.name());
    if (field.name() == name) found.push_back(field_path);
    if (field.message_type() != nullptr) FindPaths(name, *field.message_type(), field_path, found);
  }
}

}  // namespace

const config::FieldRule& RuleOf(const FieldDescriptor& field) { return field.options().GetExtension(config::rule); }

const std::string& ConfigName(const EnumValueDescriptor& value) {
  return value.options().GetExtension(config::value).name();
}

bool IsSupported(const EnumValueDescriptor& value) {
  return !value.options().GetExtension(config::value).not_supported_yet();
}

std::vector<std::string> FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.emplace_back(type.field(i)->name());
  return names;
}

std::vector<std::string> ValueNames(const EnumDescriptor& type, bool with_unsupported) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    const EnumValueDescriptor& value = *type.value(i);
    if (ConfigName(value).empty() || (!with_unsupported && !IsSupported(value))) continue;
    names.push_back(ConfigName(value));
  }
  return names;
}

std::string Nearest(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string folded = Folded(name);
  if (folded.empty() || folded.size() > 100) return "";
  const size_t limit = folded.size() <= 3 ? 1 : std::max<size_t>(2, folded.size() / 3);
  size_t best_distance = std::numeric_limits<size_t>::max();
  std::string best;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(folded, Folded(candidate));
    if (distance > limit || distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

std::string UnknownFieldHint(std::string_view name, const Descriptor& type, const Descriptor& root) {
  if (const std::string near = Nearest(name, FieldNames(type)); !near.empty()) {
    return absl::StrCat("; did you mean ", near, "?");
  }
  constexpr size_t kMaxElsewhere = 3;
  std::vector<std::string> elsewhere;
  FindPaths(name, root, "", elsewhere);
  if (!elsewhere.empty() && elsewhere.size() <= kMaxElsewhere) {
    return absl::StrCat("; did you mean ", absl::StrJoin(elsewhere, " or "), "?");
  }
  return absl::StrCat("; known fields: ", absl::StrJoin(FieldNames(type), ", "));
}

}  // namespace titan
