// train_tokenizer --corpus docs.jsonl [--text_field text] --vocab_size 2048 --out tokenizer.json
//
// Trains a byte-level BPE tokenizer of Llama 3's kind (see titan/data/bpe_trainer.h) on the documents of a JSONL file.
// The same corpus gives the same file, byte for byte.

#include <memory>
#include <string>
#include <vector>

#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/data/bpe_trainer.h"
#include "titan/data/text_source.h"

namespace titan {
namespace {

constexpr char kUsage[] =
    "usage: train_tokenizer --corpus docs.jsonl [--text_field text] --vocab_size 2048 --out tokenizer.json";

absl::Status Run(const std::vector<std::string>& arguments) {
  std::string corpus_file, out;
  std::string text_field = "text";
  int64_t vocab_size = 0;
  FlagParser flags;
  flags.Path("corpus", &corpus_file);
  flags.Text("text_field", &text_field);
  flags.Number("vocab_size", "a number of tokens", 1, &vocab_size);
  flags.Path("out", &out);
  flags.Require({"corpus", "vocab_size", "out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));

  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<TextSource> corpus, OpenJsonl({corpus_file}, text_field));
  BpeTrainer trainer;
  for (int64_t i = 0; i < corpus->size(); ++i) {
    TITAN_ASSIGN_OR_RETURN(const std::string text, corpus->Read(i));
    TITAN_RETURN_IF_ERROR(trainer.Add(text));
  }
  TITAN_ASSIGN_OR_RETURN(const std::string json, trainer.Train(vocab_size));
  return WriteFileAtomically(out, json);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("train_tokenizer", titan::kUsage, argc, argv, titan::Run); }
