// Text to token ids and back, exactly as the Hugging Face `tokenizers` library does with the same tokenizer.json.
//
//   absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load("tokenizer.json");
//   std::vector<int64_t> ids = (*tokenizer)->Encode("Hello", /*add_special_tokens=*/true).value();

#ifndef TITAN_DATA_TOKENIZER_H_
#define TITAN_DATA_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace titan {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Reads a tokenizer.json. InvalidArgument names what is malformed, or which component is not supported yet.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& path);
  // The same from the file's content.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(std::string_view json);

  // Ids of `text`; InvalidArgument if it is not UTF-8. `add_special_tokens` applies the post-processor's template (such
  // as a leading BOS). Thread-safe.
  virtual absl::StatusOr<std::vector<int64_t>> Encode(std::string_view text, bool add_special_tokens) const = 0;

  // Bytes that are not UTF-8 become U+FFFD, one per maximal ill-formed subsequence. Unknown ids are left out.
  virtual std::string Decode(absl::Span<const int64_t> ids, bool skip_special_tokens) const = 0;

  virtual int64_t vocab_size() const = 0;  // largest id + 1, added tokens included
  // Begin and end of a document, by the names that published tokenizers give them ("<|begin_of_text|>",
  // "<|endoftext|>",
  // ..., see tokenizer.cc); nullopt if none of the added tokens has such a name.
  virtual std::optional<int64_t> bos_id() const = 0;
  virtual std::optional<int64_t> eos_id() const = 0;
};

}  // namespace titan

#endif  // TITAN_DATA_TOKENIZER_H_
