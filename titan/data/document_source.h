// Corpora as token ids: numbered documents, each made when it is asked for.

#ifndef TITAN_DATA_DOCUMENT_SOURCE_H_
#define TITAN_DATA_DOCUMENT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/data/text_source.h"
#include "titan/data/tokenizer.h"

namespace titan {

// The ids of one document: its own, or a part of a mapped file.
class Document {
 public:
  enum class Width { kInt32, kInt64, kUint16, kUint32 };

  explicit Document(std::vector<int64_t> ids)
      : ids_(std::move(ids)), data_(ids_.data()), width_(Width::kInt64), size_(ids_.size()) {}
  // `data` must outlive the document and be aligned.
  Document(const void* data, Width width, int64_t size) : data_(data), width_(width), size_(size) {}
  Document(Document&&) = default;
  Document& operator=(Document&&) = default;

  int64_t size() const { return size_; }
  int64_t operator[](int64_t i) const;

 private:
  std::vector<int64_t> ids_;
  const void* data_;
  Width width_;
  int64_t size_;
};

class DocumentSource {
 public:
  virtual ~DocumentSource() = default;

  virtual int64_t size() const = 0;
  // Document `index`, 0 <= index < size(); the source must outlive it. Errors say where. Thread-safe.
  virtual absl::StatusOr<Document> Read(int64_t index) const = 0;
  // Where that document is, for messages.
  virtual std::string Where(int64_t index) const = 0;
  // Changes when the files change.
  virtual std::string fingerprint() const = 0;
  // The first document of each shard (file), ascending from 0: within a shard documents are read best one after the
  // other.
  virtual std::vector<int64_t> ShardStarts() const { return {0}; }
};

// What tokens were made with.
struct TokenizerIdentity {
  std::string sha256;      // of tokenizer.json; empty: not known
  int64_t vocab_size = 0;  // ids are below; 0: not known
};

// InvalidArgument if no document has two tokens or more: a stream of pairs would be searched for one without an end.
absl::Status CheckHasPairs(const DocumentSource& documents);

// bos + text + eos; without bos where the tokenizer has none. InvalidArgument if it has no eos.
absl::StatusOr<std::unique_ptr<DocumentSource>> Tokenized(std::unique_ptr<TextSource> texts,
                                                          std::shared_ptr<const Tokenizer> tokenizer);

// Ids made beforehand; nothing is put around them. Files are
// * NAME.safetensors: `tokens` (one dimension; I64, I32, U32 or U16) and, if there is more than one document in it,
//   `offsets` (I64 or I32; num_documents + 1 of them, from 0 to the number of tokens, ascending);
// * NAME.uint16.bin or NAME.uint32.bin: little-endian ids and nothing else, one document. The name tells the width,
//   because the bytes cannot.
// InvalidArgument if a safetensors file says that its tokens are another tokenizer's than `expected`, or that its ids
// go beyond that one's; see token_corpus.h.
absl::StatusOr<std::unique_ptr<DocumentSource>> OpenTokenFiles(const std::vector<std::string>& files,
                                                               const TokenizerIdentity& expected = {});

// Random ids below `vocab_size`, a function of (seed, document, place) alone, in documents of `document_size` ids:
// for benchmarks. As good as endless.
std::unique_ptr<DocumentSource> SyntheticDocuments(int64_t vocab_size, int64_t document_size, uint64_t seed);

// The documents of all sources, one source after the other.
std::unique_ptr<DocumentSource> Concatenated(std::vector<std::unique_ptr<DocumentSource>> sources);

struct WeightedSource {
  std::unique_ptr<DocumentSource> documents;
  double weight = 1;  // above 0
};

struct MixOptions {
  bool shuffle = true;  // a new order in each epoch of a source; which source comes next is random in any case
  uint64_t seed = 0;
  bool repeat = true;  // else the mixture ends where a source would start again
};

// Documents drawn from the sources in proportion to the weights (to 1/4096 of the whole, and at least that), in an
// order that is final: as good as endless if it repeats. Any draw is found without those before it.
// InvalidArgument if a source has no document of two tokens or more.
absl::StatusOr<std::unique_ptr<DocumentSource>> Mixed(std::vector<WeightedSource> sources, const MixOptions& options);

}  // namespace titan

#endif  // TITAN_DATA_DOCUMENT_SOURCE_H_
