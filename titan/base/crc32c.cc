#include "titan/base/crc32c.h"

#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include "absl/crc/crc32c.h"

namespace titan {
namespace {

#if defined(__x86_64__)

// Abseil chooses when it is compiled, and we compile for any x86-64; this chooses when it runs.
__attribute__((target("sse4.2"))) uint32_t ExtendSse42(uint32_t crc, std::string_view bytes) {
  uint64_t state = ~crc;
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    state = _mm_crc32_u64(state, word);
  }
  auto short_state = static_cast<uint32_t>(state);
  for (const char byte : bytes) short_state = _mm_crc32_u8(short_state, static_cast<unsigned char>(byte));
  return ~short_state;
}

#endif

}  // namespace

uint32_t ExtendCrc32c(uint32_t crc, std::string_view bytes) {
#if defined(__x86_64__)
  static const bool has_sse42 = __builtin_cpu_supports("sse4.2");
  if (has_sse42) return ExtendSse42(crc, bytes);
#endif
  return static_cast<uint32_t>(absl::ExtendCrc32c(absl::crc32c_t{crc}, bytes));
}

uint32_t Crc32c(std::string_view bytes) { return ExtendCrc32c(0, bytes); }

}  // namespace titan
