// CRC-32C (Castagnoli): finds damage to stored data, at several GB/s where the processor has the instruction. It does
// not protect against intent; that is what SHA-256 is for.
//
//   Crc32c("123456789");  // 0xe3069283

#ifndef TITAN_BASE_CRC32C_H_
#define TITAN_BASE_CRC32C_H_

#include <cstdint>
#include <string_view>

namespace titan {

uint32_t Crc32c(std::string_view bytes);

// Of the bytes behind those that `crc` is of: ExtendCrc32c(Crc32c(a), b) == Crc32c(a + b).
uint32_t ExtendCrc32c(uint32_t crc, std::string_view bytes);

}  // namespace titan

#endif  // TITAN_BASE_CRC32C_H_
