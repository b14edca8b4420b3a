#include "titan/config/locations.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace titan {
namespace {

bool IsNameChar(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// Goes through Jsonnet text once, and keeps a stack of the brackets that are open.
class KeyFinder {
 public:
  explicit KeyFinder(std::string_view text) : text_(text) {}

  std::vector<JsonnetKey> Run() {
    for (SkipBlanks(); !AtEnd(); SkipBlanks()) Token();
    return std::move(keys_);
  }

 private:
  struct Bracket {
    char kind = '(';        // '{', '[' or '('
    std::string component;  // '{': the field whose value is being read; '[': unused
    int index = 0;          // '[': of the element that is being read
    bool at_member = true;  // '{': a member begins here
  };

  bool AtEnd() const { return position_ >= text_.size(); }
  bool StartsWith(std::string_view prefix) const { return text_.substr(position_, prefix.size()) == prefix; }
  void Advance(size_t count) {
    for (; count > 0 && !AtEnd(); --count) line_ += text_[position_++] == '\n';
  }
  // Past the next `end`, or to the end of the text.
  void AdvancePast(std::string_view end) {
    const size_t found = text_.find(end, position_);
    Advance(found == std::string_view::npos ? text_.size() : found + end.size() - position_);
  }

  void SkipBlanks() {
    while (!AtEnd()) {
      if (StartsWith("//") || StartsWith("#")) {
        AdvancePast("\n");
      } else if (StartsWith("/*")) {
        AdvancePast("*/");
      } else if (absl::ascii_isspace(static_cast<unsigned char>(text_[position_]))) {
        Advance(1);
      } else {
        return;
      }
    }
  }

  void Token() {
    const char c = text_[position_];
    if (StartsWith("|||")) {
      Advance(3);
      AdvancePast("|||");
    } else if (c == '"' || c == '\'' || StartsWith("@\"") || StartsWith("@'")) {
      const int line = line_;
      Word(String(), line, /*is_string=*/true);
    } else if (IsNameChar(c)) {
      const int line = line_;
      size_t end = position_;
      while (end < text_.size() && IsNameChar(text_[end])) ++end;
      const std::string name(text_.substr(position_, end - position_));
      Advance(name.size());
      Word(name, line, /*is_string=*/false);
    } else {
      Symbol(c);
      Advance(1);
    }
  }

  std::string String() {
    const bool verbatim = text_[position_] == '@';
    if (verbatim) Advance(1);
    const char quote = text_[position_];
    Advance(1);
    std::string content;
    while (!AtEnd()) {
      const bool next_is_quote = position_ + 1 < text_.size() && text_[position_ + 1] == quote;
      if (text_[position_] == quote && !(verbatim && next_is_quote)) break;
      const char escape = verbatim ? quote : '\\';
      if (text_[position_] == escape) Advance(1);
      if (!AtEnd()) content += text_[position_];
      Advance(1);
    }
    Advance(1);
    return content;
  }

  // A name or string, which is a key if a member begins with it and a colon follows.
  void Word(const std::string& word, int line, bool is_string) {
    if (open_.empty() || open_.back().kind != '{' || !open_.back().at_member) return;
    open_.back().at_member = false;
    if (!is_string && (word == "assert" || word == "local" || word == "for" || word == "if")) return;
    SkipBlanks();
    if (!StartsWith(":") && !StartsWith("+:")) return;
    open_.back().component = word;
    keys_.push_back({CurrentPath(), line});
  }

  void Open(char kind) {
    open_.emplace_back();
    open_.back().kind = kind;
  }

  void Symbol(char c) {
    const bool computed_name = c == '[' && !open_.empty() && open_.back().kind == '{' && open_.back().at_member;
    if (computed_name) {
      open_.back().component.assign(1, '?');
      open_.back().at_member = false;
      Open('(');
    } else if (c == '{' || c == '[' || c == '(') {
      Open(c);
    } else if ((c == '}' || c == ']' || c == ')') && !open_.empty()) {
      open_.pop_back();
    } else if (c == ',' && !open_.empty()) {
      open_.back().component.clear();
      open_.back().at_member = true;
      ++open_.back().index;
    }
  }

  std::vector<std::string> CurrentPath() const {
    std::vector<std::string> path;
    for (const Bracket& bracket : open_) {
      if (bracket.kind == '{' && !bracket.component.empty()) path.push_back(bracket.component);
      if (bracket.kind == '[') path.push_back(absl::StrCat(bracket.index));
    }
    return path;
  }

  std::string_view text_;
  size_t position_ = 0;
  int line_ = 1;
  std::vector<Bracket> open_;
  std::vector<JsonnetKey> keys_;
};

bool EndsWith(const std::vector<std::string>& path, const std::vector<std::string>& end) {
  return end.size() <= path.size() && std::equal(end.rbegin(), end.rend(), path.rbegin());
}

struct FoundKey {
  bool in_main;
  bool exact;
  JsonnetLocation location;
};

// The keys that may be the field, in all files.
std::vector<FoundKey> Candidates(const std::map<std::string, std::string>& sources, const std::string& main_file,
                                 const std::vector<std::string>& path) {
  std::vector<FoundKey> found;
  for (const auto& [file, text] : sources) {
    for (const JsonnetKey& key : FindKeys(text)) {
      if (EndsWith(path, key.path)) found.push_back({file == main_file, key.path == path, {file, key.line}});
    }
  }
  return found;
}

}  // namespace

std::vector<JsonnetKey> FindKeys(std::string_view text) { return KeyFinder(text).Run(); }

std::optional<JsonnetLocation> FindInJsonnet(const std::map<std::string, std::string>& sources,
                                             const std::string& main_file, std::string_view path) {
  std::vector<std::string> components = absl::StrSplit(path, '.', absl::SkipEmpty());
  // A field that is written nowhere, such as a missing one, is placed where its group is.
  for (; !components.empty(); components.pop_back()) {
    const std::vector<FoundKey> found = Candidates(sources, main_file, components);
    if (found.empty()) continue;
    for (const auto& [exact, in_main] : {std::pair(true, true), {true, false}, {false, true}, {false, false}}) {
      std::vector<JsonnetLocation> places;
      for (const FoundKey& key : found) {
        if (key.exact == exact && key.in_main == in_main) places.push_back(key.location);
      }
      if (places.size() == 1) return places[0];
      if (places.size() > 1) return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace titan
