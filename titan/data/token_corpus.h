// A corpus as one file of token ids, made beforehand: what OpenTokenFiles (document_source.h) reads as it reads any
// other, with the same documents in the same order as Tokenized gives.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<DocumentSource> documents, Tokenized(std::move(texts), tokenizer));
//   TITAN_ASSIGN_OR_RETURN(const TokenCorpus written,
//                          WriteTokenCorpus(*documents, identity, {.path = "c4.safetensors", .num_threads = 8}));
//
// The file is safetensors: `offsets`, I64, (documents + 1); `tokens`, U16 where every id of the tokenizer fits, else
// U32; and in the metadata which tokenizer it was, so that another one's experiment refuses it.

#ifndef TITAN_DATA_TOKEN_CORPUS_H_
#define TITAN_DATA_TOKEN_CORPUS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "titan/data/document_source.h"

namespace titan {

// Keys of the metadata.
inline constexpr char kTokenizerSha256Key[] = "tokenizer_sha256";
inline constexpr char kVocabSizeKey[] = "vocab_size";

struct TokenCorpusOptions {
  std::string path;         // NAME.safetensors; replaced as a whole
  int64_t num_threads = 1;  // that tokenize
};

// What was written.
struct TokenCorpus {
  int64_t documents = 0;
  int64_t tokens = 0;
  std::string dtype;  // "U16" or "U32"
};

// Reads every document once, from the first to the last, and writes what it holds. The bytes depend on the documents
// and the identity alone, not on the number of threads. In memory are some documents for each thread, and 8 bytes for
// each of all; the tokens are written beside `path` first, since their number, which comes before them, is known last.
// Errors say which document or file.
absl::StatusOr<TokenCorpus> WriteTokenCorpus(const DocumentSource& documents, const TokenizerIdentity& tokenizer,
                                             const TokenCorpusOptions& options);

}  // namespace titan

#endif  // TITAN_DATA_TOKEN_CORPUS_H_
