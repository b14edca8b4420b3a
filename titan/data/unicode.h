// Unicode normalization forms (UAX #15) and lower case, as the Hugging Face `tokenizers` library has them.
//
//   NormalizeUnicode("e\u0301", UnicodeForm::kNfc);   // "é"
//   LowercaseUnicode("ÀB");                           // "àb"

#ifndef TITAN_DATA_UNICODE_H_
#define TITAN_DATA_UNICODE_H_

#include <string>
#include <string_view>

namespace titan {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` must be UTF-8. Characters that are newer than Hugging Face's tables stay as they are, as they do there.
std::string NormalizeUnicode(std::string_view text, UnicodeForm form);

// Each character by itself: no special form for a sigma at the end of a word, nothing that depends on the language.
std::string LowercaseUnicode(std::string_view text);

}  // namespace titan

#endif  // TITAN_DATA_UNICODE_H_
