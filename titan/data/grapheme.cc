#include "titan/data/grapheme.h"

#include <string>

#include "absl/log/check.h"
#include "pcre2.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

bool IsAscii(char c) { return static_cast<unsigned char>(c) < 0x80; }

// Marks of Unicode 17; PCRE2 knows those of Unicode 16. Found by comparing all code points, with Hugging Face's
// `tokenizers` 0.23.3.
bool IsNewMark(std::string_view text) {
  size_t offset = 0;
  const char32_t c = text.empty() ? 0 : NextCodePoint(text, &offset);
  return (c >= 0x1ACF && c <= 0x1ADD) || (c >= 0x1AE0 && c <= 0x1AEB);
}

// \X, once for all threads.
const pcre2_code* ClusterPattern() {
  static const pcre2_code* const code = [] {
    int error = 0;
    PCRE2_SIZE error_offset = 0;
    pcre2_code* const result =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>("\\X"), 2, PCRE2_UTF, &error, &error_offset, nullptr);
    CHECK(result != nullptr);
    pcre2_jit_compile(result, PCRE2_JIT_COMPLETE);  // if it fails, matching takes the interpreter
    return result;
  }();
  return code;
}

struct MatchData {
  MatchData() : data(pcre2_match_data_create(1, nullptr)) {}
  ~MatchData() { pcre2_match_data_free(data); }
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;

  pcre2_match_data* data;
};

// As PCRE2 has it. Flags (regional indicators) are counted from the start of `text`.
size_t FirstCluster(std::string_view text) {
  thread_local const MatchData match;
  const int result = pcre2_match(ClusterPattern(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                 PCRE2_NO_UTF_CHECK, match.data, nullptr);
  CHECK_GT(result, 0);
  return pcre2_get_ovector_pointer(match.data)[1];
}

// A control character stands alone, whatever follows.
bool IsControl(std::string_view character) {
  return FirstCluster(std::string(character) + "\u0301") == character.size();
}

}  // namespace

size_t FirstGrapheme(std::string_view text) {
  if (IsAscii(text[0]) && (text.size() == 1 || (IsAscii(text[1]) && text[0] != '\r'))) return 1;
  size_t end = FirstCluster(text);
  if (!IsNewMark(text.substr(end)) || IsControl(text.substr(0, end))) return end;
  while (IsNewMark(text.substr(end))) end += FirstCluster(text.substr(end));
  return end;
}

}  // namespace titan
