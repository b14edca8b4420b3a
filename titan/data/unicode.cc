#include "titan/data/unicode.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/log/check.h"
#include "absl/types/span.h"
#include "libunicode.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

// Hugging Face normalizes by the tables of Unicode 9 (and lower-cases by those of Unicode 17, as our library does).
// These are the later characters whose decomposition, composition or combining class our library knows, and Hugging
// Face does not: to it they are base characters like any other. Found by comparing all code points, with Hugging Face's
// `tokenizers` 0.23.
constexpr Range kNewCharacters[] = {
    {0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ADD},   {0x1AE0, 0x1AEB},
    {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F1, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},
    {0x105C9, 0x105C9}, {0x105D2, 0x105D2}, {0x105DA, 0x105DA}, {0x105E4, 0x105E4}, {0x10781, 0x10785},
    {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC},
    {0x10EFA, 0x10EFB}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x1133B, 0x1133B}, {0x11382, 0x11385}, {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x11391},
    {0x113C2, 0x113C2}, {0x113C5, 0x113C5}, {0x113C7, 0x113C8}, {0x113CE, 0x113D0}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11935, 0x11935}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x1611E, 0x1611E}, {0x16121, 0x16129},
    {0x1612F, 0x1612F}, {0x16D63, 0x16D63}, {0x16D67, 0x16D6A}, {0x16FF0, 0x16FF1}, {0x1CCD6, 0x1CCF9},
    {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF},
    {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF}, {0x1E6E3, 0x1E6E3}, {0x1E6E6, 0x1E6E6}, {0x1E6EE, 0x1E6EF},
    {0x1E6F5, 0x1E6F5}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

bool IsNewCharacter(char32_t c) {
  const Range* const range = std::lower_bound(std::begin(kNewCharacters), std::end(kNewCharacters), c,
                                              [](const Range& range, char32_t c) { return range.last < c; });
  return range != std::end(kNewCharacters) && c >= range->first;
}

bool IsAscii(char c) { return static_cast<unsigned char>(c) < 0x80; }

UnicodeNormalizationEnum FormOf(UnicodeForm form) {
  switch (form) {
    case UnicodeForm::kNfc:
      return UNICODE_NFC;
    case UnicodeForm::kNfd:
      return UNICODE_NFD;
    case UnicodeForm::kNfkc:
      return UNICODE_NFKC;
    case UnicodeForm::kNfkd:
      return UNICODE_NFKD;
  }
  return UNICODE_NFC;
}

void* Reallocate(void*, void* pointer, size_t size) {
  if (size == 0) {
    std::free(pointer);
    return nullptr;
  }
  void* const result = std::realloc(pointer, size);
  CHECK(result != nullptr);
  return result;
}

struct Free {
  void operator()(uint32_t* pointer) const { std::free(pointer); }
};

// The normal form of characters, of which there is at least one.
class NormalForm {
 public:
  NormalForm(UnicodeForm form, absl::Span<const uint32_t> characters) {
    uint32_t* result = nullptr;
    const int length = unicode_normalize(&result, characters.data(), static_cast<int>(characters.size()), FormOf(form),
                                         nullptr, Reallocate);
    CHECK_GE(length, 0);
    characters_.reset(result);
    size_ = length;
  }

  const uint32_t* begin() const { return characters_.get(); }
  const uint32_t* end() const { return characters_.get() + size_; }

 private:
  std::unique_ptr<uint32_t, Free> characters_;
  size_t size_;
};

// Combining class other than 0, or decomposed into such marks. That of U+0345, 240, is the highest: all go before it.
bool IsMark(uint32_t c) { return c == 0x345 || *NormalForm(UnicodeForm::kNfd, {0x345, c}).begin() != 0x345; }

// Marks that no longer decompose: the combining class of `a` is lower.
bool GoesBefore(uint32_t a, uint32_t b) { return a != b && *NormalForm(UnicodeForm::kNfd, {b, a}).begin() == a; }

// A run of marks, decomposed and in canonical order.
std::vector<uint32_t> OrderedMarks(const uint32_t* begin, const uint32_t* end) {
  std::vector<uint32_t> marks;
  for (; begin != end; ++begin) {
    const NormalForm parts(UnicodeForm::kNfd, {*begin});
    marks.insert(marks.end(), parts.begin(), parts.end());
  }
  std::vector<uint32_t> kinds = marks;
  std::sort(kinds.begin(), kinds.end());
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  std::sort(kinds.begin(), kinds.end(), GoesBefore);
  absl::flat_hash_map<uint32_t, int> ranks;
  int rank = 0;
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (i > 0 && GoesBefore(kinds[i - 1], kinds[i])) ++rank;
    ranks[kinds[i]] = rank;
  }
  std::stable_sort(marks.begin(), marks.end(), [&](uint32_t a, uint32_t b) { return ranks[a] < ranks[b]; });
  return marks;
}

// No run of marks that is twice as long is missed.
constexpr size_t kStride = 64;

// An equivalent text without long runs of marks in disorder: libunicode orders them in the square of a run's length.
std::vector<uint32_t> WithOrderedRuns(const std::vector<uint32_t>& characters) {
  std::vector<uint32_t> result;
  size_t done = 0;
  for (size_t i = kStride; i < characters.size(); i += kStride) {
    if (i < done || !IsMark(characters[i])) continue;
    size_t begin = i;
    size_t end = i + 1;
    while (begin > done && IsMark(characters[begin - 1])) --begin;
    while (end < characters.size() && IsMark(characters[end])) ++end;
    const std::vector<uint32_t> ordered = OrderedMarks(&characters[begin], &characters[end - 1] + 1);
    result.insert(result.end(), characters.begin() + done, characters.begin() + begin);
    result.insert(result.end(), ordered.begin(), ordered.end());
    done = end;
  }
  result.insert(result.end(), characters.begin() + done, characters.end());
  return result;
}

// Appends the normal form of `characters`, and empties them.
void Flush(UnicodeForm form, std::vector<uint32_t>* characters, std::string* out) {
  if (characters->empty()) return;
  if (characters->size() > kStride) *characters = WithOrderedRuns(*characters);
  for (const uint32_t c : NormalForm(form, *characters)) AppendUtf8(c, out);
  characters->clear();
}

}  // namespace

std::string NormalizeUnicode(std::string_view text, UnicodeForm form) {
  std::string out;
  out.reserve(text.size());
  std::vector<uint32_t> characters;
  size_t i = 0;
  while (i < text.size()) {
    // ASCII is its own normal form; only the last character before others can become one with what follows.
    const size_t ascii_end = i + AsciiPrefix(text.substr(i));
    if (ascii_end == text.size()) return out.append(text.substr(i));
    if (ascii_end > i) {
      out.append(text.substr(i, ascii_end - 1 - i));
      characters.push_back(text[ascii_end - 1]);
    }
    for (i = ascii_end; i < text.size() && !IsAscii(text[i]);) {
      const char32_t c = NextCodePoint(text, &i);
      if (!IsNewCharacter(c)) {
        characters.push_back(c);
        continue;
      }
      Flush(form, &characters, &out);
      AppendUtf8(c, &out);
    }
    Flush(form, &characters, &out);
  }
  return out;
}

std::string LowercaseUnicode(std::string_view text) {
  constexpr int kToLower = 1;
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextCodePoint(text, &i);
    if (c < 0x80) {
      out.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c));
      continue;
    }
    uint32_t lower[LRE_CC_RES_LEN_MAX];
    const int length = lre_case_conv(lower, c, kToLower);
    for (int k = 0; k < length; ++k) AppendUtf8(lower[k], &out);
  }
  return out;
}

}  // namespace titan
