#include "titan/data/document_source.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/data/random.h"

namespace titan {
namespace {

class TokenizedSource : public DocumentSource {
 public:
  TokenizedSource(std::unique_ptr<TextSource> texts, std::shared_ptr<const Tokenizer> tokenizer)
      : texts_(std::move(texts)), tokenizer_(std::move(tokenizer)) {}

  int64_t size() const override { return texts_->size(); }

  absl::StatusOr<Document> Read(int64_t index) const override {
    TITAN_ASSIGN_OR_RETURN(const std::string text, texts_->Read(index));
    absl::StatusOr<std::vector<int64_t>> ids = tokenizer_->Encode(text, /*add_special_tokens=*/false);
    if (!ids.ok()) return WithContext(Where(index), ids.status());
    if (tokenizer_->bos_id().has_value()) ids->insert(ids->begin(), *tokenizer_->bos_id());
    ids->push_back(*tokenizer_->eos_id());
    return Document(*std::move(ids));
  }

  std::string Where(int64_t index) const override { return texts_->Where(index); }
  std::string fingerprint() const override { return texts_->fingerprint(); }
  std::vector<int64_t> ShardStarts() const override { return texts_->ShardStarts(); }

 private:
  const std::unique_ptr<TextSource> texts_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
};

class SyntheticSource : public DocumentSource {
 public:
  SyntheticSource(int64_t vocab_size, int64_t document_size, uint64_t seed)
      : vocab_size_(vocab_size), document_size_(document_size), seed_(seed) {}

  int64_t size() const override { return int64_t{1} << 40; }

  absl::StatusOr<Document> Read(int64_t index) const override {
    const uint64_t key = Mix(Mix(seed_) ^ static_cast<uint64_t>(index));
    std::vector<int64_t> ids(document_size_);
    for (int64_t i = 0; i < document_size_; ++i) ids[i] = Mix(key ^ static_cast<uint64_t>(i)) % vocab_size_;
    return Document(std::move(ids));
  }

  std::string Where(int64_t index) const override { return absl::StrCat("synthetic document ", index); }

  std::string fingerprint() const override {
    return Sha256Hex(absl::StrCat("synthetic ", vocab_size_, " ", document_size_, " ", seed_));
  }

 private:
  const uint64_t vocab_size_;
  const int64_t document_size_;
  const uint64_t seed_;
};

class ConcatenatedSource : public DocumentSource {
 public:
  explicit ConcatenatedSource(std::vector<std::unique_ptr<DocumentSource>> sources) : sources_(std::move(sources)) {
    for (const auto& source : sources_) {
      first_.push_back(size_);
      size_ += source->size();
    }
  }

  int64_t size() const override { return size_; }

  absl::StatusOr<Document> Read(int64_t index) const override {
    const size_t source = SourceOf(index);
    return sources_[source]->Read(index - first_[source]);
  }

  std::string Where(int64_t index) const override {
    const size_t source = SourceOf(index);
    return sources_[source]->Where(index - first_[source]);
  }

  std::string fingerprint() const override {
    std::string all;
    for (const auto& source : sources_) absl::StrAppend(&all, source->fingerprint(), "\n");
    return Sha256Hex(all);
  }

  std::vector<int64_t> ShardStarts() const override {
    std::vector<int64_t> starts;
    for (size_t s = 0; s < sources_.size(); ++s) {
      for (const int64_t start : sources_[s]->ShardStarts()) starts.push_back(first_[s] + start);
    }
    return starts;
  }

 private:
  size_t SourceOf(int64_t index) const {
    return std::upper_bound(first_.begin(), first_.end(), index) - first_.begin() - 1;
  }

  const std::vector<std::unique_ptr<DocumentSource>> sources_;
  std::vector<int64_t> first_;  // by source: the number of its first document
  int64_t size_ = 0;
};

}  // namespace

int64_t Document::operator[](int64_t i) const {
  switch (width_) {
    case Width::kInt32:
      return static_cast<const int32_t*>(data_)[i];
    case Width::kInt64:
      return static_cast<const int64_t*>(data_)[i];
    case Width::kUint16:
      return static_cast<const uint16_t*>(data_)[i];
    case Width::kUint32:
      return static_cast<const uint32_t*>(data_)[i];
  }
  return -1;
}

absl::StatusOr<std::unique_ptr<DocumentSource>> Tokenized(std::unique_ptr<TextSource> texts,
                                                          std::shared_ptr<const Tokenizer> tokenizer) {
  if (!tokenizer->eos_id().has_value()) {
    return absl::InvalidArgumentError(
        "the tokenizer has no end-of-text token that Titan knows (such as <|end_of_text|> or </s>), and every document "
        "must end in one: add it to the added_tokens");
  }
  return std::make_unique<TokenizedSource>(std::move(texts), std::move(tokenizer));
}

std::unique_ptr<DocumentSource> SyntheticDocuments(int64_t vocab_size, int64_t document_size, uint64_t seed) {
  return std::make_unique<SyntheticSource>(vocab_size, document_size, seed);
}

absl::Status CheckHasPairs(const DocumentSource& documents) {
  for (int64_t i = 0; i < documents.size(); ++i) {
    TITAN_ASSIGN_OR_RETURN(const Document document, documents.Read(i));
    if (document.size() >= 2) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("no document has two tokens or more; the first one is ",
                                                 documents.size() == 0 ? "missing" : documents.Where(0)));
}

std::unique_ptr<DocumentSource> Concatenated(std::vector<std::unique_ptr<DocumentSource>> sources) {
  return std::make_unique<ConcatenatedSource>(std::move(sources));
}

}  // namespace titan
