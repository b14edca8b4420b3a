// UTF-8 as the Unicode standard defines it (table 3-7): no surrogates, no overlong forms, nothing above U+10FFFF.
//
//   FindInvalidUtf8("caf\xe9");   // 3
//   LossyUtf8("caf\xe9");         // "caf\uFFFD"

#ifndef TITAN_DATA_UTF8_H_
#define TITAN_DATA_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace titan {

// Offset of the first byte that does not belong to well-formed UTF-8; nullopt if all is well.
std::optional<size_t> FindInvalidUtf8(std::string_view bytes);

// `bytes`, each maximal ill-formed subsequence replaced by U+FFFD (as Rust's String::from_utf8_lossy).
std::string LossyUtf8(std::string_view bytes);

// Length of the ASCII that `bytes` begins with.
size_t AsciiPrefix(std::string_view bytes);

// Bytes of the well-formed character that starts with `lead`.
size_t Utf8Length(unsigned char lead);

// Appends one character. `code_point` is not a surrogate and at most U+10FFFF.
void AppendUtf8(char32_t code_point, std::string* out);

// The character at `*offset` of well-formed text; moves `*offset` behind it.
char32_t NextCodePoint(std::string_view text, size_t* offset);

}  // namespace titan

#endif  // TITAN_DATA_UTF8_H_
