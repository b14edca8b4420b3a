#include "titan/data/permutation.h"

#include "titan/data/random.h"

namespace titan {

Permutation::Permutation(int64_t size, uint64_t seed, int64_t epoch) : size_(size) {
  while (uint64_t{1} << (2 * half_bits_) < size_) ++half_bits_;
  uint64_t key = Mix(seed) ^ static_cast<uint64_t>(epoch);
  for (uint64_t& round_key : keys_) round_key = key = Mix(key);
}

int64_t Permutation::operator()(int64_t index) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t value = index;
  do {
    uint64_t left = value >> half_bits_;
    uint64_t right = value & mask;
    for (const uint64_t key : keys_) {
      const uint64_t next = left ^ (Mix(right ^ key) & mask);
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= size_);
  return value;
}

}  // namespace titan
