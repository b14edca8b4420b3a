// A random order of 0 .. size-1 that needs no memory and can be entered anywhere.
//
//   Permutation order(num_documents, /*seed=*/42, /*epoch=*/0);
//   order(0);  // the first document of the epoch

#ifndef TITAN_DATA_PERMUTATION_H_
#define TITAN_DATA_PERMUTATION_H_

#include <array>
#include <cstdint>

namespace titan {

// A Feistel network over the next power of four, walked until it lands below `size` (Black and Rogaway, "Ciphers with
// Arbitrary Finite Domains", 2002).
class Permutation {
 public:
  // 0 <= size <= 2^62.
  Permutation(int64_t size, uint64_t seed, int64_t epoch);

  // 0 <= index < size; takes four steps at most on average.
  int64_t operator()(int64_t index) const;

 private:
  static constexpr int kRounds = 6;

  uint64_t size_;
  int half_bits_ = 0;
  std::array<uint64_t, kRounds> keys_;
};

}  // namespace titan

#endif  // TITAN_DATA_PERMUTATION_H_
