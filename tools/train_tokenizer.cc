// train_tokenizer --corpus docs.jsonl [--text_field text] --vocab_size 2048 --out tokenizer.json
//
// Trains a byte-level BPE tokenizer of Llama 3's kind (see titan/data/bpe_trainer.h) on the documents of a JSONL file.
// The same corpus gives the same file, byte for byte.

#include <iostream>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/data/bpe_trainer.h"
#include "titan/data/text_source.h"

namespace titan {
namespace {

constexpr char kUsage[] =
    "usage: train_tokenizer --corpus docs.jsonl [--text_field text] --vocab_size 2048 --out tokenizer.json";

absl::StatusOr<std::map<std::string, std::string>> ParseFlags(int argc, char** argv) {
  std::map<std::string, std::string> flags = {
      {"--corpus", ""}, {"--text_field", "text"}, {"--vocab_size", ""}, {"--out", ""}};
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

absl::Status Run(int argc, char** argv) {
  TITAN_ASSIGN_OR_RETURN(auto flags, ParseFlags(argc, argv));
  int64_t vocab_size = 0;
  if (!absl::SimpleAtoi(flags["--vocab_size"], &vocab_size)) {
    return absl::InvalidArgumentError(absl::StrCat("--vocab_size: '", flags["--vocab_size"], "' is not a number"));
  }
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<TextSource> corpus,
                         OpenJsonl({UserPath(flags["--corpus"])}, flags["--text_field"]));
  BpeTrainer trainer;
  for (int64_t i = 0; i < corpus->size(); ++i) {
    TITAN_ASSIGN_OR_RETURN(const std::string text, corpus->Read(i));
    TITAN_RETURN_IF_ERROR(trainer.Add(text));
  }
  TITAN_ASSIGN_OR_RETURN(const std::string json, trainer.Train(vocab_size));
  return WriteFileAtomically(UserPath(flags["--out"]), json);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  const absl::Status status = titan::Run(argc, argv);
  if (!status.ok()) std::cerr << "train_tokenizer: " << status.message() << "\n";
  return status.ok() ? 0 : 2;
}
