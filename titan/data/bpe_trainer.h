// Trains a byte-level BPE tokenizer of Llama 3's kind: its split pattern, its template (a leading <|begin_of_text|>),
// its special tokens at the end of the vocabulary. The result depends on the texts and their counts alone, not on their
// order.
//
//   BpeTrainer trainer;
//   for (...) TITAN_RETURN_IF_ERROR(trainer.Add(text));
//   absl::StatusOr<std::string> json = trainer.Train(/*vocab_size=*/2048);   // the content of a tokenizer.json

#ifndef TITAN_DATA_BPE_TRAINER_H_
#define TITAN_DATA_BPE_TRAINER_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/data/pre_tokenizer.h"

namespace titan {

class BpeTrainer {
 public:
  // <|begin_of_text|>, <|end_of_text|>, and reserved ones.
  static constexpr int64_t kSpecialTokens = 16;

  BpeTrainer();

  // Counts the words of a text; InvalidArgument if it is not UTF-8.
  absl::Status Add(std::string_view text);

  // Vocabulary: the 256 bytes, then a token per merge, then the special tokens. Each merge joins the pair that is most
  // frequent at that point; of equally frequent ones the one with the smallest bytes (left, then right).
  // InvalidArgument if the texts have fewer pairs that occur twice.
  absl::StatusOr<std::string> Train(int64_t vocab_size) const;

 private:
  PreTokenizer pre_tokenizer_;
  std::map<std::string, int64_t, std::less<>> counts_;  // by word
};

}  // namespace titan

#endif  // TITAN_DATA_BPE_TRAINER_H_
