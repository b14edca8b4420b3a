// OpenTokenFiles of document_source.h.

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/safetensors.h"
#include "titan/data/document_source.h"
#include "titan/data/mapped_file.h"
#include "titan/data/token_corpus.h"

namespace titan {
namespace {

using Width = Document::Width;

int64_t BytesOf(Width width) { return width == Width::kUint16 ? 2 : width == Width::kInt64 ? 8 : 4; }

std::optional<Width> WidthOf(StoredDtype dtype) {
  switch (dtype) {
    case StoredDtype::kI64:
      return Width::kInt64;
    case StoredDtype::kI32:
      return Width::kInt32;
    case StoredDtype::kU32:
      return Width::kUint32;
    case StoredDtype::kU16:
      return Width::kUint16;
    default:
      return std::nullopt;
  }
}

// One file's tokens, and where its documents begin.
struct TokenFile {
  std::string path;
  std::shared_ptr<const void> mapping;
  const std::byte* tokens;
  Width width;
  Document offsets;  // num_documents + 1 of them

  int64_t num_documents() const { return offsets.size() - 1; }
};

absl::Status BadFile(const std::string& path, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

// The ids in an entry, as they lie in the file. The format does not promise alignment, its writers keep to it.
absl::StatusOr<Document> IdsOf(const std::string& path, const SafetensorsFile::Entry& entry) {
  const std::optional<Width> width = WidthOf(entry.dtype);
  if (!width.has_value() || entry.shape.size() != 1) {
    return BadFile(path, absl::StrCat("`", entry.name, "` must have one dimension and be I64, I32, U32 or U16"));
  }
  if (reinterpret_cast<uintptr_t>(entry.data.data()) % BytesOf(*width) != 0) {
    return BadFile(path, absl::StrCat("`", entry.name, "` is not aligned; write the file again, with aligned data"));
  }
  return Document(entry.data.data(), *width, entry.shape[0]);
}

// What a file says about its tokenizer is that of the experiment. Most files say nothing.
absl::Status CheckTokenizer(const SafetensorsFile& file, const TokenizerIdentity& expected) {
  const auto sha256 = file.metadata().find(kTokenizerSha256Key);
  if (sha256 != file.metadata().end() && !expected.sha256.empty() && sha256->second != expected.sha256) {
    return BadFile(file.path(), absl::StrCat("its tokens are those of the tokenizer with sha256 ", sha256->second,
                                             ", but the experiment's has ", expected.sha256,
                                             ". Give titan_experiment and titan_tokenized_corpus the same `tokenizer`, "
                                             "and build the corpus again"));
  }
  const auto vocab_size = file.metadata().find(kVocabSizeKey);
  int64_t size = 0;
  if (vocab_size == file.metadata().end() || expected.vocab_size == 0) return absl::OkStatus();
  if (!absl::SimpleAtoi(vocab_size->second, &size)) {
    return BadFile(file.path(), absl::StrCat("the metadata `", kVocabSizeKey, "` must be an integer"));
  }
  if (size <= expected.vocab_size) return absl::OkStatus();
  return BadFile(file.path(), absl::StrCat("ids of its tokenizer go to ", size - 1, ", but model.vocab_size is ",
                                           expected.vocab_size,
                                           ": raise that, or tokenize the corpus with the "
                                           "tokenizer that the model is meant for"));
}

absl::StatusOr<TokenFile> OpenSafetensors(const std::string& path, const TokenizerIdentity& expected,
                                          std::string* fingerprint) {
  TITAN_ASSIGN_OR_RETURN(std::shared_ptr<const SafetensorsFile> file, SafetensorsFile::Open(path));
  TITAN_RETURN_IF_ERROR(CheckTokenizer(*file, expected));
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> bytes, MappedFile::Open(path));
  *fingerprint = Fingerprint(path, bytes->bytes());
  const SafetensorsFile::Entry* tokens = file->Find("tokens");
  if (tokens == nullptr) return BadFile(path, "no entry `tokens`");
  TITAN_ASSIGN_OR_RETURN(const Document ids, IdsOf(path, *tokens));
  Document offsets(std::vector<int64_t>{0, ids.size()});
  if (const SafetensorsFile::Entry* entry = file->Find("offsets")) {
    TITAN_ASSIGN_OR_RETURN(offsets, IdsOf(path, *entry));
    if (offsets.size() < 2 || offsets[0] != 0 || offsets[offsets.size() - 1] != ids.size()) {
      return BadFile(path, absl::StrCat("`offsets` must go from 0 to the number of tokens, ", ids.size()));
    }
    for (int64_t i = 1; i < offsets.size(); ++i) {
      if (offsets[i] < offsets[i - 1]) return BadFile(path, absl::StrCat("`offsets` descends at ", i));
    }
  }
  return TokenFile{path, file, tokens->data.data(), *WidthOf(tokens->dtype), std::move(offsets)};
}

absl::StatusOr<TokenFile> OpenBin(const std::string& path, std::string* fingerprint) {
  std::optional<Width> width;
  if (absl::EndsWith(path, ".uint16.bin")) width = Width::kUint16;
  if (absl::EndsWith(path, ".uint32.bin")) width = Width::kUint32;
  if (!width.has_value()) {
    return BadFile(path, "token files are named *.safetensors, *.uint16.bin or *.uint32.bin: rename it");
  }
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  *fingerprint = Fingerprint(path, file->bytes());
  const int64_t bytes = file->bytes().size();
  if (bytes % BytesOf(*width) != 0) {
    return BadFile(path, absl::StrCat(bytes, " bytes are no whole number of ids of ", BytesOf(*width),
                                      " bytes: the file is cut off, or its name tells the wrong width"));
  }
  return TokenFile{path, file, reinterpret_cast<const std::byte*>(file->bytes().data()), *width,
                   Document(std::vector<int64_t>{0, bytes / BytesOf(*width)})};
}

class TokenFiles : public DocumentSource {
 public:
  TokenFiles(std::vector<TokenFile> files, std::string fingerprint)
      : files_(std::move(files)), fingerprint_(std::move(fingerprint)) {
    for (const TokenFile& file : files_) size_ += file.num_documents();
  }

  int64_t size() const override { return size_; }

  absl::StatusOr<Document> Read(int64_t index) const override {
    const TokenFile& file = Find(&index);
    const int64_t begin = file.offsets[index];
    return Document(file.tokens + begin * BytesOf(file.width), file.width, file.offsets[index + 1] - begin);
  }

  std::string Where(int64_t index) const override {
    const TokenFile& file = Find(&index);
    return absl::StrCat(file.path, ", document ", index);
  }

  std::string fingerprint() const override { return fingerprint_; }

  std::vector<int64_t> ShardStarts() const override {
    std::vector<int64_t> starts = {0};
    for (const TokenFile& file : files_) starts.push_back(starts.back() + file.num_documents());
    if (starts.size() > 1) starts.pop_back();
    return starts;
  }

 private:
  // The file of a document; `*index` becomes its number in that file.
  const TokenFile& Find(int64_t* index) const {
    size_t file = 0;
    for (; *index >= files_[file].num_documents(); ++file) *index -= files_[file].num_documents();
    return files_[file];
  }

  const std::vector<TokenFile> files_;
  const std::string fingerprint_;
  int64_t size_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DocumentSource>> OpenTokenFiles(const std::vector<std::string>& files,
                                                               const TokenizerIdentity& expected) {
  std::vector<TokenFile> opened;
  Sha256 hash;
  for (const std::string& path : files) {
    std::string fingerprint;
    absl::StatusOr<TokenFile> file = absl::EndsWith(path, ".safetensors")
                                         ? OpenSafetensors(path, expected, &fingerprint)
                                         : OpenBin(path, &fingerprint);
    if (!file.ok()) return file.status();
    opened.push_back(*std::move(file));
    hash.Update(fingerprint);
  }
  return std::make_unique<TokenFiles>(std::move(opened), hash.FinishHex());
}

}  // namespace titan
