// Corpora of text: numbered documents, each read when it is asked for.

#ifndef TITAN_DATA_TEXT_SOURCE_H_
#define TITAN_DATA_TEXT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace titan {

class TextSource {
 public:
  virtual ~TextSource() = default;

  virtual int64_t size() const = 0;
  // Document `index`, 0 <= index < size(). Errors say where. Thread-safe.
  virtual absl::StatusOr<std::string> Read(int64_t index) const = 0;
  // Where that document is, for messages: "docs.jsonl:12".
  virtual std::string Where(int64_t index) const = 0;
  // Changes when the files change; see mapped_file.h.
  virtual const std::string& fingerprint() const = 0;
  // The first document of each shard, ascending from 0: within a shard documents are read best one after the other.
  virtual std::vector<int64_t> ShardStarts() const { return {0}; }
};

// One document per file.
absl::StatusOr<std::unique_ptr<TextSource>> OpenTextFiles(const std::vector<std::string>& files);

// The string in `text_field` of a line of JSON. The error does not say where.
absl::StatusOr<std::string> TextOfJsonLine(std::string_view line, const std::string& text_field);

// One JSON object per line; the document is the string in `text_field`. Empty lines are skipped. The files are only
// searched for line ends here: a malformed line is an error when it is read.
absl::StatusOr<std::unique_ptr<TextSource>> OpenJsonl(const std::vector<std::string>& files,
                                                      const std::string& text_field);

}  // namespace titan

#endif  // TITAN_DATA_TEXT_SOURCE_H_
