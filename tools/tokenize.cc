// tokenize --tokenizer tokenizer.json --in cases.jsonl --out out.jsonl
//
// Text to ids and back with the trainer's own tokenizer. A line in is a JSON object with `text` and, optionally,
// `add_special_tokens` (true unless it says otherwise), or with `ids` only. The line out has `ids` (of the text where
// there is one), `decoded`, and `decoded_skip_special` (without special tokens) of these ids.

#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

constexpr char kUsage[] = "usage: tokenize --tokenizer tokenizer.json --in cases.jsonl --out out.jsonl";

absl::StatusOr<std::map<std::string, std::string>> ParseFlags(int argc, char** argv) {
  std::map<std::string, std::string> flags = {{"--tokenizer", ""}, {"--in", ""}, {"--out", ""}};
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    const size_t equals = name.find('=');
    std::string value = equals == std::string::npos ? (i + 1 < argc ? argv[++i] : "") : name.substr(equals + 1);
    name = name.substr(0, equals);
    if (flags.count(name) == 0) return absl::InvalidArgumentError(absl::StrCat("unknown flag ", name, "\n", kUsage));
    flags[name] = std::move(value);
  }
  for (const auto& [name, value] : flags) {
    if (value.empty()) return absl::InvalidArgumentError(absl::StrCat(name, " is missing\n", kUsage));
  }
  return flags;
}

absl::StatusOr<std::vector<int64_t>> IdsOf(const Tokenizer& tokenizer, const nlohmann::json& line) {
  if (!Member(line, "text").is_null()) {
    TITAN_ASSIGN_OR_RETURN(const std::string text, StringMember(line, "text"));
    TITAN_ASSIGN_OR_RETURN(const bool add_special_tokens, BoolMember(line, "add_special_tokens", true));
    return tokenizer.Encode(text, add_special_tokens);
  }
  std::vector<int64_t> ids;
  const nlohmann::json& list = Member(line, "ids");
  if (!list.is_array()) return absl::InvalidArgumentError("neither \"text\" nor a list \"ids\"");
  for (const nlohmann::json& id : list) {
    if (!id.is_number_integer()) return absl::InvalidArgumentError("\"ids\" must hold integers");
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

absl::StatusOr<nlohmann::json> Answer(const Tokenizer& tokenizer, const std::string& line) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(line));
  TITAN_ASSIGN_OR_RETURN(const std::vector<int64_t> ids, IdsOf(tokenizer, json));
  return nlohmann::json({{"ids", ids},
                         {"decoded", tokenizer.Decode(ids, /*skip_special_tokens=*/false)},
                         {"decoded_skip_special", tokenizer.Decode(ids, /*skip_special_tokens=*/true)}});
}

absl::Status Run(int argc, char** argv) {
  TITAN_ASSIGN_OR_RETURN(auto flags, ParseFlags(argc, argv));
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(UserPath(flags["--tokenizer"])));
  std::ifstream in(UserPath(flags["--in"]));
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read ", flags["--in"]));
  std::string out;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    absl::StatusOr<nlohmann::json> answer = Answer(*tokenizer, line);
    if (!answer.ok()) {
      return absl::Status(answer.status().code(),
                          absl::StrCat(flags["--in"], ":", number, ": ", answer.status().message()));
    }
    absl::StrAppend(&out, answer->dump(), "\n");
  }
  return WriteFileAtomically(UserPath(flags["--out"]), out);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  const absl::Status status = titan::Run(argc, argv);
  if (!status.ok()) std::cerr << "tokenize: " << status.message() << "\n";
  return status.ok() ? 0 : 2;
}
