// Corpora as others publish them: lines of JSON and texts compressed with gzip or Zstandard, Parquet, Arrow. They are
// read through Apache Arrow, whose libraries are 60 MB, from the front to the back; so the trainer, which reads at any
// place, is given text that was made of them when it was built (//tools:text_corpus).
//
//   TITAN_RETURN_IF_ERROR(ReadForeignTexts("c4-train.00000.json.gz", {}, [&](std::string_view text) { ... }));

#ifndef TITAN_DATA_FOREIGN_TEXTS_H_
#define TITAN_DATA_FOREIGN_TEXTS_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

enum class ForeignFormat {
  kJsonl,    // a JSON object a line, of which one string counts; empty lines are skipped
  kText,     // one document
  kParquet,  // a column of strings
  kArrow,    // the same, in Arrow's IPC format: a file, or a stream as Hugging Face's `datasets` writes it
};

struct ForeignTextOptions {
  // "jsonl", "text", "parquet", "arrow"; or "auto", by the file's name without .gz and .zst.
  std::string format = "auto";
  // The key of an object; the name of a column.
  std::string text_field = "text";
};

// The format of a file of this name. An error names the file and what there is to choose.
absl::StatusOr<ForeignFormat> ForeignFormatOf(const std::string& path, const std::string& format);

// Gives all documents of a file to `add`, in order; ends at its first error. Files are decompressed if they begin as
// gzip or Zstandard do, all members or frames of them. Errors say which file, and which line or row: one that is
// truncated, damaged, empty or other than its name says, a column that is missing or holds no strings, a null.
// A document may have 1 GiB.
absl::Status ReadForeignTexts(const std::string& path, const ForeignTextOptions& options,
                              const std::function<absl::Status(std::string_view text)>& add);

}  // namespace titan

#endif  // TITAN_DATA_FOREIGN_TEXTS_H_
