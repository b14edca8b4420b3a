// Counter-based randomness: a function of its arguments, without state to save.

#ifndef TITAN_DATA_RANDOM_H_
#define TITAN_DATA_RANDOM_H_

#include <cstdint>

namespace titan {

// The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection that scatters neighbouring inputs.
inline uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace titan

#endif  // TITAN_DATA_RANDOM_H_
