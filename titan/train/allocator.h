// The host memory allocator, set for training.

#ifndef TITAN_TRAIN_ALLOCATOR_H_
#define TITAN_TRAIN_ALLOCATOR_H_

#include <malloc.h>

namespace titan {

// Activations and gradients come and go at every step in the same sizes. By default glibc gives such large blocks back
// to the system at once, and the system clears their pages again for the next step. Call it first in main.
inline void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

}  // namespace titan

#endif  // TITAN_TRAIN_ALLOCATOR_H_
