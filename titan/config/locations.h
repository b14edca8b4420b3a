// Where a field is written in Jsonnet, found by reading the text: the evaluator keeps no origins of values.

#ifndef TITAN_CONFIG_LOCATIONS_H_
#define TITAN_CONFIG_LOCATIONS_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace titan {

struct JsonnetLocation {
  std::string file;
  int line = 0;  // 1-based
};

// A field name in Jsonnet text, inside the fields and list elements around it.
struct JsonnetKey {
  std::vector<std::string> path;  // "optimizer", "lr"; list elements are "0", "1", ...; "?" is a computed name
  int line = 0;
};

// All field names of objects in `text`. Understands comments, strings, text blocks and nesting; of text that is not
// Jsonnet it gives something or nothing, but never fails.
std::vector<JsonnetKey> FindKeys(std::string_view text);

// The one place where the field `path` ("data.sources.0.corpus") is written: in the main file, or else in one of the
// libraries. A key counts when its own path is the field's, or the end of it (as in `local optimizer = { lr: 1 }`).
// Nothing if there is no such place, or more than one.
std::optional<JsonnetLocation> FindInJsonnet(const std::map<std::string, std::string>& sources,
                                             const std::string& main_file, std::string_view path);

}  // namespace titan

#endif  // TITAN_CONFIG_LOCATIONS_H_
