// The text files of a checkpoint: what was accepted says the same when it is written and read again.

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/fuzz/fuzz_target.h"
#include "titan/base/crc32c.h"
#include "titan/checkpoint/index.h"

namespace titan {
namespace {

void FuzzIndex(std::string_view text) {
  const auto index = ParseIndex(text);
  if (!index.ok()) return;
  REQUIRE(CheckComplete(*index).ok());
  const std::string formatted = FormatIndex(*index);
  const auto again = ParseIndex(formatted);
  REQUIRE(again.ok());
  REQUIRE(FormatIndex(*again) == formatted);
}

// A checksum is no obstacle to whoever means harm, so the input comes with the right one.
void FuzzPart(std::string_view text) {
  (void)ParsePart(text);
  const auto part = ParsePart(absl::StrFormat("titan_checkpoint_part %08x\n", Crc32c(text)) + std::string(text));
  if (!part.ok()) return;
  const auto again = ParsePart(FormatPart(*part));
  REQUIRE(again.ok());
  REQUIRE(FormatPart(*again) == FormatPart(*part));
  CheckpointIndex merged;
  REQUIRE(Merge(part->index, merged).ok());
  const bool has_files = !part->index.shards.empty();
  REQUIRE(Merge(part->index, merged).ok() != has_files);
  (void)CheckComplete(part->index);
}

void FuzzCommitted(std::string_view text) {
  for (const std::string& file : {std::string(text), absl::StrFormat("%s%08x\n", text, Crc32c(text))}) {
    const auto committed = ParseCommitted(file);
    if (committed.ok()) REQUIRE(FormatCommitted(*committed) == file);
  }
}

}  // namespace
}  // namespace titan

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = titan::AsText(data, size);
  titan::FuzzIndex(text);
  titan::FuzzPart(text);
  titan::FuzzCommitted(text);
  return 0;
}
