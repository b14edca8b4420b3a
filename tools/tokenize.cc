// tokenize --tokenizer tokenizer.json --in cases.jsonl --out out.jsonl
//
// Text to ids and back with the trainer's own tokenizer. A line in is a JSON object with `text` and, optionally,
// `add_special_tokens` (true unless it says otherwise), or with `ids` only. The line out has `ids` (of the text where
// there is one), `decoded`, and `decoded_skip_special` (without special tokens) of these ids.

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/base/with_context.h"
#include "titan/data/json.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

constexpr char kUsage[] = "usage: tokenize --tokenizer tokenizer.json --in cases.jsonl --out out.jsonl";

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

absl::Status Run(const std::vector<std::string>& arguments) {
  std::string tokenizer_file, in_file, out_file;
  FlagParser flags;
  flags.Path("tokenizer", &tokenizer_file);
  flags.Path("in", &in_file);
  flags.Path("out", &out_file);
  flags.Require({"tokenizer", "in", "out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));

  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(tokenizer_file));
  std::ifstream in(in_file);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read ", in_file));
  std::string out;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    absl::StatusOr<nlohmann::json> answer = Answer(*tokenizer, line);
    if (!answer.ok()) return WithContext(absl::StrCat(in_file, ":", number), answer.status());
    absl::StrAppend(&out, answer->dump(), "\n");
  }
  return WriteFileAtomically(out_file, out);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("tokenize", titan::kUsage, argc, argv, titan::Run); }
