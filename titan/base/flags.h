// A command line: flags, and arguments that are none.
//
//   std::string out;
//   int64_t steps = 10;
//   FlagParser flags;
//   flags.Path("out", &out);
//   flags.Number("steps", "a number of steps", 1, &steps);
//   flags.Require({"out"});
//   TITAN_RETURN_IF_ERROR(flags.Parse({"--steps=20", "--out", "runs/1"}));
//
// "--flag value" and "--flag=value" are the same; a value that begins with "--" needs the second form. Of a flag that
// is given twice the last counts, except for List.

#ifndef TITAN_BASE_FLAGS_H_
#define TITAN_BASE_FLAGS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace titan {

// True if one of the arguments is --help or -h.
bool WantsHelp(const std::vector<std::string>& arguments);

class FlagParser {
 public:
  // Each declares --`name`. Parse writes through the pointer, and leaves the default there if the flag is not given.
  void Text(const std::string& name, std::string* value);
  void Path(const std::string& name, std::string* value);  // made absolute by UserPath
  void List(const std::string& name, std::vector<std::string>* values);
  void Switch(const std::string& name, bool* value);  // takes no value

  // An integer from `minimum` on. `what` completes "takes ...": "a number of steps".
  void Number(const std::string& name, const std::string& what, int64_t minimum, int64_t* value);

  // One of several words.
  template <typename T>
  void Choice(const std::string& name, const std::vector<std::pair<std::string, T>>& choices, T* value) {
    std::vector<std::string> words;
    for (const auto& [word, meaning] : choices) words.push_back(word);
    AddChoice(name, words, [choices, value](size_t i) { *value = choices[i].second; });
  }

  // Where arguments go that are no flags. Without it there must be none.
  void Positional(std::vector<std::string>* values);

  // Flags without which Parse fails.
  void Require(const std::vector<std::string>& names);

  // `arguments` without the program's name. InvalidArgument names the flag and what it takes, or the flag that was
  // probably meant.
  absl::Status Parse(const std::vector<std::string>& arguments);

 private:
  struct Flag {
    bool takes_value = true;
    bool given = false;
    std::function<absl::Status(const std::string&)> set;  // of a switch: with ""
  };

  void AddChoice(const std::string& name, const std::vector<std::string>& words, std::function<void(size_t)> set);
  void Add(const std::string& name, std::function<absl::Status(const std::string&)> set);
  absl::Status Unknown(const std::string& argument, const std::string& name) const;
  // The flag at arguments[i]; moves i to its value if that is the next argument.
  absl::Status ParseFlag(const std::vector<std::string>& arguments, size_t& i);

  std::map<std::string, Flag> flags_;
  std::vector<std::string> required_;
  std::vector<std::string>* positional_ = nullptr;
};

}  // namespace titan

#endif  // TITAN_BASE_FLAGS_H_
