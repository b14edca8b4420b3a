#include "titan/data/white_space.h"

#include "titan/data/utf8.h"

namespace titan {
namespace {

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// ASCII that is neither white space nor a control character.
bool IsPlain(char c) { return c > 0x20; }

}  // namespace

size_t LeadingSpace(std::string_view text) {
  size_t end = 0;
  while (end < text.size() && !IsPlain(text[end])) {
    size_t offset = end;
    if (!IsWhiteSpace(NextCodePoint(text, &offset))) break;
    end = offset;
  }
  return end;
}

size_t UntilSpace(std::string_view text) {
  size_t start = 0;
  while (start < text.size()) {
    if (IsPlain(text[start])) {
      ++start;
      continue;
    }
    size_t offset = start;
    if (IsWhiteSpace(NextCodePoint(text, &offset))) break;
    start = offset;
  }
  return start;
}

size_t TrailingSpace(std::string_view text) {
  size_t start = text.size();
  while (start > 0) {
    size_t character = start - 1;
    while (character > 0 && (text[character] & 0xC0) == 0x80) --character;
    size_t offset = character;
    if (!IsWhiteSpace(NextCodePoint(text, &offset))) break;
    start = character;
  }
  return start;
}

}  // namespace titan
