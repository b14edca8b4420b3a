// One thing that is wrong with a configuration, and the list of them that a reader collects.
//
//   ConfigErrors errors;
//   errors.Add("optimizer.lr", "-1 is out of range: it must be above 0");

#ifndef TITAN_CONFIG_CONFIG_ERROR_H_
#define TITAN_CONFIG_CONFIG_ERROR_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace titan {

struct ConfigError {
  std::string path;  // of the field: "data.sources.0.corpus"; empty for the whole document
  std::string message;
  // The `path=value` override that is at fault; empty when the document is.
  std::string override_text;
  // The field is not written where it should be.
  bool is_missing = false;
};

class ConfigErrors {
 public:
  void Add(std::string path, std::string message, std::string override_text = "") {
    errors_.push_back({std::move(path), std::move(message), std::move(override_text), /*is_missing=*/false});
  }
  void AddMissing(std::string path, std::string message, std::string override_text = "") {
    errors_.push_back({std::move(path), std::move(message), std::move(override_text), /*is_missing=*/true});
  }
  // Whether `path`, a part of it or something it is a part of, has an error already.
  bool Concerns(std::string_view path) const;
  bool empty() const { return errors_.empty(); }
  const std::vector<ConfigError>& list() const { return errors_; }

 private:
  std::vector<ConfigError> errors_;
};

// "a" and "b" give "a.b"; an empty parent gives "b".
std::string JoinPath(std::string_view parent, std::string_view child);

}  // namespace titan

#endif  // TITAN_CONFIG_CONFIG_ERROR_H_
