// What some blocks keep for their backward waits for it in the memory of the host, and the memory of the device is used
// by other blocks meanwhile. The copies run beside what the device computes.
//
//   ActivationOffload offload({.device = device, .blocks = {false, true, false, true, false}, .lag = 2});
//   const auto parcel = offload.PutAway(saved, others);  // behind the block's forward; `saved`: see SavedScope
//   offload.BlockDone();                                 // behind every block
//   offload.StartFetch(*parcel);                         // one or two blocks before the block's backward
//   offload.FinishFetch(*parcel);                        // before the block's backward
//
// The graph keeps its tensors: memory is taken from under their storages and put back. Nothing here waits on the host,
// and nothing depends on how fast the copies are: the device waits for a copy `lag` blocks after it was begun, and only
// then is the memory given back.

#ifndef TITAN_PARALLEL_ACTIVATION_OFFLOAD_H_
#define TITAN_PARALLEL_ACTIVATION_OFFLOAD_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "titan/parallel/copy_stream.h"

namespace titan {

// What one block of one microbatch has put away.
class ActivationParcel;

class ActivationOffload {
 public:
  struct Options {
    at::Device device = at::kCPU;  // where the blocks compute; on the CPU it is a copy from there to there, at once
    std::vector<bool> blocks;      // of each block of the model: whether it puts away
    int64_t lag = 1;               // in blocks
    int64_t min_bytes = 64 << 10;  // smaller storages stay: they cost more than they bring
  };

  explicit ActivationOffload(Options options)
      : options_(std::move(options)), down_(options_.device), up_(options_.device) {}

  bool Takes(size_t block) const { return options_.blocks.at(block); }

  // Takes the memory of those of `saved` that nobody needs but this block's backward: not of `others`, which are its
  // input, its output, its weights, and what blocks share. From now on they have none until FinishFetch.
  std::shared_ptr<ActivationParcel> PutAway(const std::vector<c10::Storage>& saved,
                                            const std::vector<at::Tensor>& others);
  // Another block's forward or backward is on the stream.
  void BlockDone();
  // The way back begins behind what is on the stream now. Again is nothing.
  void StartFetch(ActivationParcel& parcel);
  // What comes onto the stream from here on finds the values where they were saved.
  void FinishFetch(ActivationParcel& parcel);

  // Memory of the host that was allocated for it so far. It is used again, and never given back.
  int64_t host_bytes() const { return host_bytes_; }

 private:
  bool IsTaken(const c10::Storage& storage, const std::vector<at::Tensor>& others) const;
  at::Tensor TakeHostMemory(int64_t bytes);
  void GiveBack(ActivationParcel& parcel);

  const Options options_;
  const CopyStream down_, up_;  // one for each direction: they do not hold each other up
  int64_t blocks_done_ = 0;
  std::deque<std::shared_ptr<ActivationParcel>> leaving_;        // the oldest first
  std::map<int64_t, std::vector<at::Tensor>> free_host_memory_;  // by bytes
  int64_t host_bytes_ = 0;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_ACTIVATION_OFFLOAD_H_
