#include <libunicode.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "gtest/gtest.h"

namespace titan {
namespace {

void* Reallocate(void*, void* pointer, size_t size) {
  if (size > 0) return std::realloc(pointer, size);
  std::free(pointer);
  return nullptr;
}

std::vector<uint32_t> Normalize(const std::vector<uint32_t>& text, UnicodeNormalizationEnum form) {
  uint32_t* result = nullptr;
  const int length = unicode_normalize(&result, text.data(), static_cast<int>(text.size()), form, nullptr, Reallocate);
  std::vector<uint32_t> copy(result, result + length);
  std::free(result);
  return copy;
}

TEST(LibunicodeTest, Normalizes) {
  EXPECT_EQ(Normalize({'e', 0x301}, UNICODE_NFC), (std::vector<uint32_t>{0xE9}));
  EXPECT_EQ(Normalize({0xE9}, UNICODE_NFD), (std::vector<uint32_t>{'e', 0x301}));
  EXPECT_EQ(Normalize({0xFB01}, UNICODE_NFKC), (std::vector<uint32_t>{'f', 'i'}));
}

TEST(LibunicodeTest, LowersByTheTablesOfUnicode17) {
  uint32_t lower[LRE_CC_RES_LEN_MAX];
  EXPECT_EQ(lre_case_conv(lower, 0xA7CE, /*conv_type=*/1), 1);  // new in 17
  EXPECT_EQ(lower[0], 0xA7CFu);
}

}  // namespace
}  // namespace titan
