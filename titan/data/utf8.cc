#include "titan/data/utf8.h"

#include <cstring>

namespace titan {
namespace {

struct Sequence {
  size_t length;  // bytes that belong together: a character, or a maximal ill-formed subsequence
  bool valid;
};

// What starts at `bytes`, which is not empty.
Sequence ReadSequence(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  // The second byte's range rules out overlong forms, surrogates and what is above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  const size_t length = Utf8Length(lead);
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {i, false};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return {i, false};
  }
  return {length, true};
}

}  // namespace

size_t AsciiPrefix(std::string_view bytes) {
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (i < bytes.size() && static_cast<unsigned char>(bytes[i]) < 0x80) ++i;
  return i;
}

size_t Utf8Length(unsigned char lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

std::optional<size_t> FindInvalidUtf8(std::string_view bytes) {
  size_t offset = 0;
  while (true) {
    offset += AsciiPrefix(bytes.substr(offset));
    if (offset == bytes.size()) return std::nullopt;
    const Sequence sequence = ReadSequence(bytes.substr(offset));
    if (!sequence.valid) return offset;
    offset += sequence.length;
  }
}

std::string LossyUtf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Sequence sequence = ReadSequence(bytes);
    text += sequence.valid ? bytes.substr(0, sequence.length) : std::string_view("\uFFFD");
    bytes.remove_prefix(sequence.length);
  }
  return text;
}

void AppendUtf8(char32_t code_point, std::string* out) {
  const auto append = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    append(code_point);
    return;
  }
  if (code_point < 0x800) {
    append(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      append(0xE0 | code_point >> 12);
    } else {
      append(0xF0 | code_point >> 18);
      append(0x80 | (code_point >> 12 & 0x3F));
    }
    append(0x80 | (code_point >> 6 & 0x3F));
  }
  append(0x80 | (code_point & 0x3F));
}

char32_t NextCodePoint(std::string_view text, size_t* offset) {
  const unsigned char lead = text[*offset];
  const size_t length = Utf8Length(lead);
  char32_t code_point = length == 1 ? lead : lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) code_point = code_point << 6 | (text[*offset + i] & 0x3F);
  *offset += length;
  return code_point;
}

}  // namespace titan
