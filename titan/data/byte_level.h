// The byte-level alphabet of GPT-2: each byte is written as one printable character, so that a vocabulary is text.
// https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode
//
//   ToByteLevel(" a\n");              // "ĠaĊ"
//   FromByteLevel("ĠaĊ").value();     // " a\n"

#ifndef TITAN_DATA_BYTE_LEVEL_H_
#define TITAN_DATA_BYTE_LEVEL_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace titan {

// The bytes that `token` stands for; nullopt if it has a character outside of the alphabet. `token` must be UTF-8.
std::optional<std::string> FromByteLevel(std::string_view token);

std::string ToByteLevel(std::string_view bytes);

// All bytes by their characters' code points: the printable ones first. Vocabularies number them in this order.
const std::array<uint8_t, 256>& ByteLevelOrder();

}  // namespace titan

#endif  // TITAN_DATA_BYTE_LEVEL_H_
