#include "titan/base/flags.h"

#include <algorithm>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/file.h"
#include "titan/base/nearest.h"
#include "titan/base/status_macros.h"

namespace titan {

bool WantsHelp(const std::vector<std::string>& arguments) {
  return std::any_of(arguments.begin(), arguments.end(),
                     [](const std::string& argument) { return argument == "--help" || argument == "-h"; });
}

void FlagParser::Add(const std::string& name, std::function<absl::Status(const std::string&)> set) {
  Flag flag;
  flag.set = std::move(set);
  CHECK(flags_.emplace(name, std::move(flag)).second) << "--" << name << " is declared twice";
}

void FlagParser::Text(const std::string& name, std::string* value) {
  Add(name, [value](const std::string& text) {
    *value = text;
    return absl::OkStatus();
  });
}

void FlagParser::Path(const std::string& name, std::string* value) {
  Add(name, [value](const std::string& text) {
    *value = UserPath(text);
    return absl::OkStatus();
  });
}

void FlagParser::List(const std::string& name, std::vector<std::string>* values) {
  Add(name, [values](const std::string& text) {
    values->push_back(text);
    return absl::OkStatus();
  });
}

void FlagParser::Switch(const std::string& name, bool* value) {
  Add(name, [value](const std::string&) {
    *value = true;
    return absl::OkStatus();
  });
  flags_[name].takes_value = false;
}

void FlagParser::Number(const std::string& name, const std::string& what, int64_t minimum, int64_t* value) {
  Add(name, [name, what, minimum, value](const std::string& text) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(text, &number) || number < minimum) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " ", text, ": takes ", what, ", ", minimum, " or more"));
    }
    *value = number;
    return absl::OkStatus();
  });
}

void FlagParser::AddChoice(const std::string& name, const std::vector<std::string>& words,
                           std::function<void(size_t)> set) {
  CHECK_GE(words.size(), 2u);
  Add(name, [name, words, set = std::move(set)](const std::string& text) {
    const auto found = std::find(words.begin(), words.end(), text);
    if (found == words.end()) {
      const std::vector<std::string> but_last(words.begin(), words.end() - 1);
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " ", text, ": takes ", absl::StrJoin(but_last, ", "), " or ", words.back()));
    }
    set(found - words.begin());
    return absl::OkStatus();
  });
}

void FlagParser::Positional(std::vector<std::string>* values) { positional_ = values; }

void FlagParser::Require(const std::vector<std::string>& names) {
  for (const std::string& name : names) CHECK(flags_.count(name) > 0) << "--" << name << " is not declared";
  required_ = names;
}

absl::Status FlagParser::Unknown(const std::string& argument, const std::string& name) const {
  std::vector<std::string> known;
  for (const auto& [flag, unused] : flags_) known.push_back(flag);
  known.push_back("help");
  const std::string nearest = Nearest(name, known);
  return absl::InvalidArgumentError(absl::StrCat(argument, ": unknown flag; ",
                                                 nearest.empty()
                                                     ? absl::StrCat("known are --", absl::StrJoin(known, ", --"))
                                                     : absl::StrCat("did you mean --", nearest, "?")));
}

absl::Status FlagParser::ParseFlag(const std::vector<std::string>& arguments, size_t& i) {
  const std::string& argument = arguments[i];
  const size_t equals = argument.find('=');
  const std::string name = argument.substr(2, equals == std::string::npos ? equals : equals - 2);
  const auto found = flags_.find(name);
  if (found == flags_.end()) return Unknown(argument, name);
  Flag& flag = found->second;
  flag.given = true;
  if (!flag.takes_value) {
    if (equals != std::string::npos) return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value"));
    return flag.set("");
  }
  if (equals == std::string::npos && (i + 1 == arguments.size() || absl::StartsWith(arguments[i + 1], "--"))) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value; see --help"));
  }
  const std::string value = equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1);
  if (value.empty()) return absl::InvalidArgumentError(absl::StrCat("--", name, ": the value is empty"));
  return flag.set(value);
}

absl::Status FlagParser::Parse(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (absl::StartsWith(arguments[i], "--")) {
      TITAN_RETURN_IF_ERROR(ParseFlag(arguments, i));
    } else if (positional_ != nullptr) {
      positional_->push_back(arguments[i]);
    } else {
      return absl::InvalidArgumentError(absl::StrCat(arguments[i], ": expected a flag; see --help"));
    }
  }
  for (const std::string& name : required_) {
    if (!flags_.at(name).given) return absl::InvalidArgumentError(absl::StrCat("--", name, " is missing; see --help"));
  }
  return absl::OkStatus();
}

}  // namespace titan
