#include "titan/data/regex.h"

#include <cctype>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pcre2.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

constexpr size_t kJitStackStart = 32 * 1024;
constexpr size_t kJitStackMax = 64 * 1024 * 1024;

// Walks a pattern in Oniguruma's Ruby syntax and writes the PCRE2 pattern of the same meaning.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Translate() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        TITAN_RETURN_IF_ERROR(Escape());
      } else if (in_class_) {
        TITAN_RETURN_IF_ERROR(InClass(c));
      } else {
        TITAN_RETURN_IF_ERROR(OutsideClass(c));
      }
    }
    return std::move(out_);
  }

 private:
  absl::Status Unsupported(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression '", pattern_, "': ", what, " at byte ", at_, " is not supported"));
  }

  char Peek(size_t ahead) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }

  void Copy(size_t length) {
    out_ += pattern_.substr(at_, length);
    at_ += length;
  }

  void Replace(size_t length, std::string_view by) {
    out_ += by;
    at_ += length;
  }

  absl::Status Escape() {
    const char c = Peek(1);
    switch (c) {
      // Oniguruma's \s is the Unicode property; PCRE2's own \s is ASCII, or takes U+180E in as well.
      case 's':
        Replace(2, "\\p{White_Space}");
        return absl::OkStatus();
      case 'S':
        Replace(2, "\\P{White_Space}");
        return absl::OkStatus();
      case 'd':
        Replace(2, "\\p{Nd}");
        return absl::OkStatus();
      case 'D':
        Replace(2, "\\P{Nd}");
        return absl::OkStatus();
      case 'r':
      case 'n':
      case 't':
      case 'f':
        Copy(2);
        return absl::OkStatus();
      case 'u':
        return CodePoint();
      case 'p':
      case 'P':
        return Property();
      default:
        if (static_cast<unsigned char>(c) >= 0x80 || !std::ispunct(static_cast<unsigned char>(c))) {
          return Unsupported("this escape");
        }
        Copy(2);
        return absl::OkStatus();
    }
  }

  // \uHHHH
  absl::Status CodePoint() {
    for (size_t i = 2; i < 6; ++i) {
      if (!std::isxdigit(static_cast<unsigned char>(Peek(i)))) return Unsupported("\\u without four digits");
    }
    const std::string digits(pattern_.substr(at_ + 2, 4));
    Replace(6, absl::StrCat("\\x{", digits, "}"));
    return absl::OkStatus();
  }

  // \p{Lu}: a general category is the same in both; \p{Han} is a script here, and "script or extension" in PCRE2.
  absl::Status Property() {
    const size_t close = pattern_.find('}', at_);
    if (Peek(2) != '{' || close == std::string_view::npos) return Unsupported("a property without braces");
    const std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    const bool is_category = !name.empty() && name.size() <= 2 && absl::StrContains("CLMNPSZ", name[0]);
    for (const char c : name) {
      if (!std::isalpha(static_cast<unsigned char>(c)) && c != '_') return Unsupported("this property");
    }
    Replace(close + 1 - at_, absl::StrCat("\\", pattern_.substr(at_ + 1, 1), is_category ? "{" : "{sc:", name, "}"));
    return absl::OkStatus();
  }

  absl::Status InClass(char c) {
    if (c == '[') return Unsupported("a class in a class");
    if (c == '&' && Peek(1) == '&') return Unsupported("the intersection of classes");
    if (c == ']') in_class_ = false;
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status OutsideClass(char c) {
    if (c == '.' || c == '^' || c == '$') return Unsupported(absl::StrCat("'", std::string(1, c), "'"));
    if (c == '(') return Group();
    if (c == '[') {
      in_class_ = true;
      Copy(Peek(1) == '^' ? 2 : 1);
      if (Peek(0) == ']') return Unsupported("']' first in a class");
      return absl::OkStatus();
    }
    // Ruby reads {n}+ as a repetition of a repetition, PCRE2 as possessive.
    if (c == '}' && Peek(1) == '+') return Unsupported("'}+'");
    if (c == '{' && Peek(1) == ',') return Unsupported("'{,'");
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Group() {
    if (Peek(1) == '*') return Unsupported("'(*'");
    if (Peek(1) != '?') {
      Copy(1);
      return absl::OkStatus();
    }
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"}) {
      if (absl::StartsWith(pattern_.substr(at_), known)) {
        Copy(known.size());
        return absl::OkStatus();
      }
    }
    return Unsupported("this kind of group");
  }

  const std::string_view pattern_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

// What a match needs beside the pattern: one of each per thread, for all patterns.
struct Scratch {
  Scratch()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr)) {
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Scratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

}  // namespace

struct Regex::Code {
  Code(pcre2_code* code, bool is_native, std::string pattern)
      : code(code), is_native(is_native), pattern(std::move(pattern)) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  pcre2_code* const code;
  const bool is_native;  // compiled to machine code
  const std::string pattern;
};

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  TITAN_ASSIGN_OR_RETURN(const std::string translated, Translator(pattern).Translate());
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  pcre2_code* const code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), PCRE2_UTF,
                                         &error, &error_offset, nullptr);
  if (code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression '", pattern, "': ", ErrorText(error), " (as PCRE2: '", translated, "')"));
  }
  // Where the system forbids code generation this fails, and matching falls back to the interpreter.
  const bool is_native = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
  return Regex(std::make_shared<const Code>(code, is_native, std::string(pattern)));
}

absl::StatusOr<std::optional<Regex::Match>> Regex::Find(std::string_view text, size_t from) const {
  thread_local const Scratch scratch;
  // pcre2_jit_match is pcre2_match without the checks of its arguments, which take longer than a short match.
  const auto match = code_->is_native ? pcre2_jit_match : pcre2_match;
  const int result = match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                           PCRE2_NO_UTF_CHECK, scratch.data, scratch.context);
  if (result == PCRE2_ERROR_NOMATCH) return std::optional<Match>();
  if (result < 0) {
    return absl::InternalError(absl::StrCat("regular expression '", code_->pattern, "': ", ErrorText(result)));
  }
  const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(scratch.data);
  return std::optional<Match>({range[0], range[1]});
}

std::string QuoteRegex(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c))) quoted += '\\';
    quoted += c;
  }
  return quoted;
}

}  // namespace titan
