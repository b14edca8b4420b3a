// Copies between the memory of the host and that of a device, while the device computes.
//
//   CopyStream copies(device);
//   const at::Tensor host = copies.NewHostTensor(1000, at::kFloat);
//   copies.Run([&] { on_device.copy_(host, /*non_blocking=*/true); });
//   copies.Join();  // what is computed from here on sees on_device
//
// On the CPU the copies are done at once, and there is nothing to wait for.

#ifndef TITAN_PARALLEL_COPY_STREAM_H_
#define TITAN_PARALLEL_COPY_STREAM_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <functional>
#include <optional>

namespace titan {

class CopyStream {
 public:
  explicit CopyStream(at::Device device);

  // Uninitialised memory of the host, (size); for a GPU pinned, since only from there and to there a copy runs by
  // itself.
  at::Tensor NewHostTensor(int64_t size, at::ScalarType dtype) const;

  // What `work` enqueues runs on the copy stream, after everything that is on the current stream now: so it may read
  // what that has computed, and write to memory that that has given back.
  void Run(const std::function<void()>& work) const;
  // The same for a copy from `device_tensor`, whose memory stays until the copy is done, even if the caller drops it.
  void CopyToHost(const at::Tensor& host_tensor, const at::Tensor& device_tensor) const;
  // What comes onto the current stream from here on runs after everything that is on the copy stream now.
  void Join() const;
  // What is on the copy stream now.
  struct Mark {
    std::optional<c10::Event> event;  // nothing on the CPU
  };
  Mark Now() const;
  // What comes onto the current stream from here on runs after what was on the copy stream at `mark`.
  void Join(const Mark& mark) const;
  // Blocks the host until everything on the copy stream is done: what was copied to the host may be read, and what was
  // copied from it may be changed.
  void Finish() const;

 private:
  const at::Device device_;
  std::optional<c10::Stream> stream_;  // nothing on the CPU
};

}  // namespace titan

#endif  // TITAN_PARALLEL_COPY_STREAM_H_
