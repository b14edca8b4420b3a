// A file of tensors, header and all: what was accepted can be read to its last byte, and written and read again.

#include <algorithm>
#include <cstring>

#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_file.h"
#include "titan/checkpoint/safetensors.h"

namespace titan {
namespace {

void CheckEntries(const SafetensorsFile& file) {
  unsigned sum = 0;
  for (const SafetensorsFile::Entry& entry : file.entries()) {
    REQUIRE(file.Find(entry.name) == &entry);
    REQUIRE(NumBytes(entry.dtype, entry.shape) == static_cast<int64_t>(entry.data.size()));
    for (const std::byte byte : entry.data) sum += std::to_integer<unsigned>(byte);
  }
  for (const std::byte byte : file.header()) sum += std::to_integer<unsigned>(byte);
  volatile unsigned used = sum;
  (void)used;
}

void CheckSame(const SafetensorsFile& a, const SafetensorsFile& b) {
  REQUIRE(a.metadata() == b.metadata());
  REQUIRE(a.entries().size() == b.entries().size());
  for (const SafetensorsFile::Entry& entry : a.entries()) {
    const SafetensorsFile::Entry* const other = b.Find(entry.name);
    REQUIRE(other != nullptr && other->dtype == entry.dtype && other->shape == entry.shape);
    REQUIRE(std::equal(entry.data.begin(), entry.data.end(), other->data.begin(), other->data.end()));
  }
}

}  // namespace
}  // namespace titan

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using titan::SafetensorsFile;
  const auto file = SafetensorsFile::Open(titan::WriteInput("input.safetensors", titan::AsText(data, size)));
  if (!file.ok()) {
    REQUIRE(!file.status().message().empty());
    return 0;
  }
  titan::CheckEntries(**file);
  const std::string copy = titan::WriteInput("copy.safetensors", "");
  const absl::Status written = titan::WriteSafetensors(copy, (*file)->entries(), (*file)->metadata());
  REQUIRE(written.ok());
  const auto again = SafetensorsFile::Open(copy);
  REQUIRE(again.ok());
  titan::CheckSame(**file, **again);
  return 0;
}
