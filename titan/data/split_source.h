// A corpus in two parts: documents to train on, and documents that are held out for validation.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<DocumentSource> training,
//                          PartOf(OpenCorpus(), {.share = 0.01}, CorpusPart::kTraining));
//
// Which documents are held out is a function of (numbers of documents, seed) alone, so that training and validation
// agree on it without a word, on every rank and after every restart. A document's number in the corpus is hashed: of a
// share, those are held out whose hash is low enough, so that documents that are added at the end of a corpus change
// nothing for those before; of a number, those with the lowest hashes.

#ifndef TITAN_DATA_SPLIT_SOURCE_H_
#define TITAN_DATA_SPLIT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/data/document_source.h"

namespace titan {

enum class CorpusPart { kTraining, kHeldOut };

// How much of a corpus is held out: one of `share` and `documents`, or nothing.
struct Holdout {
  double share = 0;       // of the documents, below 1
  int64_t documents = 0;  // so many
  uint64_t seed = 0;

  bool is_nothing() const { return share == 0 && documents == 0; }
};

// The numbers of the documents that are held out, ascending. Hashes every number: a second or two for 10^9 documents.
// InvalidArgument if that is none or all of them.
absl::StatusOr<std::vector<int64_t>> HeldOutDocuments(int64_t corpus_size, const Holdout& holdout);

// One part of a corpus, in the order of the corpus. Keeps 8 bytes for each document that is held out. Of nothing held
// out, all is for training, and the part is the corpus itself; the held-out part is then InvalidArgument.
absl::StatusOr<std::unique_ptr<DocumentSource>> PartOf(std::unique_ptr<DocumentSource> corpus, const Holdout& holdout,
                                                       CorpusPart part);

}  // namespace titan

#endif  // TITAN_DATA_SPLIT_SOURCE_H_
