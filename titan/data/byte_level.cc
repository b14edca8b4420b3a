#include "titan/data/byte_level.h"

#include "titan/data/utf8.h"

namespace titan {
namespace {

constexpr int kCharacters = 256 + 68;  // 188 bytes are themselves; the others are U+0100 to U+0143

bool IsPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  Alphabet() {
    byte_of.fill(-1);
    int ordered = 0;
    for (int byte = 0; byte < 256; ++byte) {
      if (IsPrintable(byte)) order[ordered++] = byte;
    }
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      if (!IsPrintable(byte)) order[ordered++] = byte;
      character_of[byte] = IsPrintable(byte) ? byte : next++;
      byte_of[character_of[byte]] = byte;
    }
  }

  std::array<uint8_t, 256> order;
  std::array<char32_t, 256> character_of;
  std::array<int, kCharacters> byte_of;
};

const Alphabet& TheAlphabet() {
  static const Alphabet* const alphabet = new Alphabet();
  return *alphabet;
}

}  // namespace

std::optional<std::string> FromByteLevel(std::string_view token) {
  std::string bytes;
  for (size_t offset = 0; offset < token.size();) {
    const char32_t character = NextCodePoint(token, &offset);
    if (character >= kCharacters || TheAlphabet().byte_of[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(TheAlphabet().byte_of[character]));
  }
  return bytes;
}

std::string ToByteLevel(std::string_view bytes) {
  std::string token;
  for (const char byte : bytes) AppendUtf8(TheAlphabet().character_of[static_cast<unsigned char>(byte)], &token);
  return token;
}

const std::array<uint8_t, 256>& ByteLevelOrder() { return TheAlphabet().order; }

}  // namespace titan
