#include "titan/data/text_source.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/data/json.h"
#include "titan/data/mapped_file.h"

namespace titan {
namespace {

using Files = std::vector<std::shared_ptr<const MappedFile>>;

// What is no text, and would be read as a very odd one.
absl::Status ExpectText(const MappedFile& file) {
  constexpr std::pair<std::string_view, std::string_view> kOthers[] = {
      {"\x1f\x8b", "gzip"}, {"\x28\xb5\x2f\xfd", "Zstandard"}, {"PAR1", "Parquet"}, {"ARROW1", "Arrow"}};
  for (const auto& [magic, name] : kOthers) {
    if (!absl::StartsWith(file.bytes(), magic)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), " is a file of ", name,
                     ", and no text; let titan_text_corpus (tools/build_defs/text_corpus.bzl) make text of it"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Files> OpenAll(const std::vector<std::string>& paths, std::string* fingerprint) {
  Files files;
  Sha256 hash;
  for (const std::string& path : paths) {
    TITAN_ASSIGN_OR_RETURN(files.emplace_back(), MappedFile::Open(path));
    TITAN_RETURN_IF_ERROR(ExpectText(*files.back()));
    hash.Update(Fingerprint(path, files.back()->bytes()));
  }
  *fingerprint = hash.FinishHex();
  return files;
}

class TextFiles : public TextSource {
 public:
  TextFiles(Files files, std::string fingerprint) : files_(std::move(files)), fingerprint_(std::move(fingerprint)) {}

  int64_t size() const override { return files_.size(); }
  absl::StatusOr<std::string> Read(int64_t index) const override { return std::string(files_[index]->bytes()); }
  std::string Where(int64_t index) const override { return files_[index]->path(); }
  const std::string& fingerprint() const override { return fingerprint_; }
  std::vector<int64_t> ShardStarts() const override {
    std::vector<int64_t> starts(files_.size());
    std::iota(starts.begin(), starts.end(), 0);
    return starts;
  }

 private:
  const Files files_;
  const std::string fingerprint_;
};

class Jsonl : public TextSource {
 public:
  Jsonl(Files files, std::string text_field, std::string fingerprint)
      : files_(std::move(files)), text_field_(std::move(text_field)), fingerprint_(std::move(fingerprint)) {
    for (const auto& file : files_) {
      first_.push_back(offsets_.size());
      AddLines(file->bytes());
    }
  }

  int64_t size() const override { return offsets_.size(); }

  absl::StatusOr<std::string> Read(int64_t index) const override {
    const std::string_view rest = files_[FileOf(index)]->bytes().substr(offsets_[index]);
    absl::StatusOr<std::string> text = TextOfJsonLine(rest.substr(0, rest.find('\n')), text_field_);
    if (!text.ok()) return WithContext(Where(index), text.status());
    return text;
  }

  std::string Where(int64_t index) const override {
    const MappedFile& file = *files_[FileOf(index)];
    const std::string_view before = file.bytes().substr(0, offsets_[index]);
    return absl::StrCat(file.path(), ":", 1 + std::count(before.begin(), before.end(), '\n'));
  }

  const std::string& fingerprint() const override { return fingerprint_; }
  std::vector<int64_t> ShardStarts() const override { return first_; }

 private:
  void AddLines(std::string_view bytes) {
    for (size_t begin = 0; begin < bytes.size();) {
      const size_t end = std::min(bytes.find('\n', begin), bytes.size());
      if (bytes.substr(begin, end - begin).find_first_not_of(" \t\r") != std::string_view::npos) {
        offsets_.push_back(begin);
      }
      begin = end + 1;
    }
  }

  // The last file whose first document is not behind `index`.
  size_t FileOf(int64_t index) const {
    return std::upper_bound(first_.begin(), first_.end(), index) - first_.begin() - 1;
  }

  const Files files_;
  const std::string text_field_;
  const std::string fingerprint_;
  std::vector<int64_t> offsets_;  // by document: where its line begins in its file
  std::vector<int64_t> first_;    // by file: its first document
};

}  // namespace

absl::StatusOr<std::string> TextOfJsonLine(std::string_view line, const std::string& text_field) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json object, ParseJson(line));
  if (!object.is_object()) return absl::InvalidArgumentError("not a JSON object");
  const auto text = object.find(text_field);
  if (text == object.end() || !text->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat("no string \"", text_field, "\" (text_field) in the object"));
  }
  return text->get<std::string>();
}

absl::StatusOr<std::unique_ptr<TextSource>> OpenTextFiles(const std::vector<std::string>& files) {
  std::string fingerprint;
  TITAN_ASSIGN_OR_RETURN(Files opened, OpenAll(files, &fingerprint));
  return std::make_unique<TextFiles>(std::move(opened), std::move(fingerprint));
}

absl::StatusOr<std::unique_ptr<TextSource>> OpenJsonl(const std::vector<std::string>& files,
                                                      const std::string& text_field) {
  std::string fingerprint;
  TITAN_ASSIGN_OR_RETURN(Files opened, OpenAll(files, &fingerprint));
  return std::make_unique<Jsonl>(std::move(opened), text_field, std::move(fingerprint));
}

}  // namespace titan
