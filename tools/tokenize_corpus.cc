// tokenize_corpus --tokenizer tokenizer.json --out NAME.safetensors [--format jsonl] [--text_field text]
//     [--manifest NAME.manifest.json] [--threads N] FILE...
//
// Text in, ids out: a token file for data.sources[].format = "tokens", with the documents that training on the text
// would see, so that the losses are the same to the last bit. The manifest says what went in and what came out. Its
// bytes and those of the token file depend on the files and the tokenizer alone.

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/descriptor.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/schema.h"
#include "titan/data/document_source.h"
#include "titan/data/text_formats.h"
#include "titan/data/token_corpus.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

constexpr char kUsage[] = R"(usage: tokenize_corpus --tokenizer tokenizer.json --out NAME.safetensors FILE...
  --format F         of the files, as data.sources[].format has it: jsonl (default) or text, one document a file
  --text_field NAME  of the objects of jsonl ("text")
  --manifest FILE    gets sizes and digests of what went in and what came out, as JSON
  --threads N        that tokenize (all cores)
FILE... are read in the order given. ID=FILE gives a file another name in the manifest; @LIST stands for the lines of a
file.)";

struct InputFile {
  std::string id;
  std::string path;
};

absl::StatusOr<std::vector<InputFile>> ReadInputs(const std::vector<std::string>& arguments) {
  std::vector<std::string> expanded;
  for (const std::string& argument : arguments) {
    if (!absl::StartsWith(argument, "@")) {
      expanded.push_back(argument);
      continue;
    }
    TITAN_ASSIGN_OR_RETURN(const std::string list, ReadFile(UserPath(argument.substr(1))));
    for (const std::string_view line : absl::StrSplit(list, '\n', absl::SkipEmpty())) expanded.emplace_back(line);
  }
  std::vector<InputFile> inputs;
  for (const std::string& argument : expanded) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(argument, absl::MaxSplits('=', 1));
    const std::string& path = parts.second.empty() ? parts.first : parts.second;
    inputs.push_back({parts.first, UserPath(path)});
  }
  if (inputs.empty()) return absl::InvalidArgumentError("no files were given");
  return inputs;
}

absl::StatusOr<config::Source::Format> FormatOf(const std::string& name) {
  const google::protobuf::EnumDescriptor& type = *config::Source::Format_descriptor();
  for (int i = 0; i < type.value_count(); ++i) {
    const google::protobuf::EnumValueDescriptor& value = *type.value(i);
    const auto format = static_cast<config::Source::Format>(value.number());
    if (ConfigName(value) == name && IsSupported(value) && format != config::Source::FORMAT_TOKENS) return format;
  }
  return absl::InvalidArgumentError(absl::StrCat("--format: \"", name, "\" is no format of text; there are ",
                                                 absl::StrJoin(ValueNames(type, /*with_unsupported=*/false), ", ")));
}

absl::StatusOr<nlohmann::json> DescribeFile(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string sha256, Sha256OfFile(path));
  return nlohmann::json({{"bytes", std::filesystem::file_size(path)}, {"sha256", sha256}});
}

absl::Status WriteManifest(const std::string& path, const std::string& out, const std::vector<InputFile>& inputs,
                           const TokenizerIdentity& tokenizer, const TokenCorpus& corpus) {
  TITAN_ASSIGN_OR_RETURN(nlohmann::json manifest, DescribeFile(out));
  manifest["documents"] = corpus.documents;
  manifest["tokens"] = corpus.tokens;
  manifest["dtype"] = corpus.dtype;
  manifest["tokenizer"] = {{"sha256", tokenizer.sha256}, {"vocab_size", tokenizer.vocab_size}};
  manifest["files"] = nlohmann::json::array();
  for (const InputFile& input : inputs) {
    TITAN_ASSIGN_OR_RETURN(nlohmann::json file, DescribeFile(input.path));
    file["id"] = input.id;
    manifest["files"].push_back(std::move(file));
  }
  return WriteFileAtomically(path, manifest.dump(1) + "\n");
}

absl::Status Run(const std::vector<std::string>& arguments) {
  std::string tokenizer_file, out, manifest, format = "jsonl", text_field = "text";
  int64_t num_threads = std::max<int64_t>(std::thread::hardware_concurrency(), 1);
  std::vector<std::string> files;
  FlagParser flags;
  flags.Path("tokenizer", &tokenizer_file);
  flags.Path("out", &out);
  flags.Path("manifest", &manifest);
  flags.Text("format", &format);
  flags.Text("text_field", &text_field);
  flags.Number("threads", "a number of threads", 1, &num_threads);
  flags.Positional(&files);
  flags.Require({"tokenizer", "out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (!absl::EndsWith(out, ".safetensors")) return absl::InvalidArgumentError("--out must end with .safetensors");

  config::Source source;
  TITAN_ASSIGN_OR_RETURN(const config::Source::Format value, FormatOf(format));
  source.set_format(value);
  source.set_text_field(text_field);
  TITAN_ASSIGN_OR_RETURN(const std::vector<InputFile> inputs, ReadInputs(files));
  std::vector<std::string> paths;
  for (const InputFile& input : inputs) paths.push_back(input.path);
  TITAN_ASSIGN_OR_RETURN(std::unique_ptr<TextSource> texts, OpenTexts(source, paths));
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::Load(tokenizer_file));
  TokenizerIdentity identity = {"", tokenizer->vocab_size()};
  TITAN_ASSIGN_OR_RETURN(identity.sha256, Sha256OfFile(tokenizer_file));
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<DocumentSource> documents, Tokenized(std::move(texts), tokenizer));
  TITAN_ASSIGN_OR_RETURN(const TokenCorpus corpus,
                         WriteTokenCorpus(*documents, identity, {.path = out, .num_threads = num_threads}));
  return manifest.empty() ? absl::OkStatus() : WriteManifest(manifest, out, inputs, identity, corpus);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("tokenize_corpus", titan::kUsage, argc, argv, titan::Run); }
