// Documents back to back, cut at row ends (torchtitan's ConcatThenSplit).
//
// A document of n ids gives n - 1 pairs: each id but the last with the next one as its label, so that no label belongs
// to another document. Positions start at 0 where a document or a row starts. The stream of pairs is endless if it
// repeats; it does not depend on how it is cut into rows and batches.
//
// What does not fill a row at the end of a stream that ends is dropped, or, with `pads`, filled up: token 0, label
// -100, positions as of a document of its own.

#ifndef TITAN_DATA_PACKER_H_
#define TITAN_DATA_PACKER_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "titan/data/document_source.h"
#include "titan/data/permutation.h"

namespace titan {

// A place in the stream.
struct StreamPosition {
  int64_t epoch = 0;
  int64_t document = 0;  // in the order of the epoch
  int64_t offset = 0;    // pairs of that document that are used up
};

struct PackerOptions {
  int64_t vocab_size = 0;  // ids must be below
  bool shuffle = true;     // a new order of documents in each epoch, by (seed, epoch)
  uint64_t seed = 0;
  bool repeat = true;
  bool pads = false;  // the last row, if !repeat
};

// Makes [begin, end of the spans) padding.
void Pad(int64_t begin, absl::Span<int64_t> tokens, absl::Span<int64_t> labels, absl::Span<int64_t> positions);

class Packer {
 public:
  // `documents` must outlive the packer and hold at least one.
  Packer(const DocumentSource* documents, const PackerOptions& options);

  // The next row; the spans have equal length. OutOfRange if the last epoch ends before the row is full, with `pads`
  // before it has begun. Errors of documents say where.
  absl::Status NextRow(absl::Span<int64_t> tokens, absl::Span<int64_t> labels, absl::Span<int64_t> positions);

  // Where the next row starts.
  const StreamPosition& position() const { return position_; }
  void Seek(const StreamPosition& position);

 private:
  // Makes document_ one that has pairs left.
  absl::Status FindDocument();
  absl::Status ReadDocument();
  // Ids [begin, end) of document_ are in the vocabulary.
  absl::Status CheckIds(int64_t begin, int64_t end) const;
  // The current document's number in the source.
  int64_t CurrentIndex() const;

  const DocumentSource* const documents_;
  const PackerOptions options_;
  StreamPosition position_;
  std::optional<Permutation> order_;  // of the current epoch
  std::optional<Document> document_;  // the current one
  bool epoch_is_empty_ = true;        // no pair was found in it yet
};

}  // namespace titan

#endif  // TITAN_DATA_PACKER_H_
