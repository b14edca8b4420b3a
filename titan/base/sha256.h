// SHA-256 (FIPS 180-4), with the processor's own instructions where it has them: four to five times as fast as without,
// since whole libraries are checked when a run starts.
//
//   Sha256Hex("abc");                        // "ba7816bf..."
//   Sha256OfFile("lib/libtorch_cpu.so");     // StatusOr
//   Sha256 hash; hash.Update(a); hash.Update(b); hash.FinishHex();

#ifndef TITAN_BASE_SHA256_H_
#define TITAN_BASE_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace titan {

class Sha256 {
 public:
  enum class Implementation { kFastest, kPortable };

  // kPortable is for tests and for comparison; the results are the same.
  explicit Sha256(Implementation implementation = Implementation::kFastest);

  void Update(std::string_view bytes);
  // 64 lower-case hexadecimal digits. The object is used up.
  std::string FinishHex();

 private:
  using CompressFunction = void (*)(uint32_t state[8], const uint8_t* blocks, size_t num_blocks);

  CompressFunction compress_;
  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> pending_;  // the first num_bytes_ % 64 of it
  uint64_t num_bytes_ = 0;
};

std::string Sha256Hex(std::string_view bytes);

// Reads the file in pieces. Errors as ReadFile.
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);

}  // namespace titan

#endif  // TITAN_BASE_SHA256_H_
