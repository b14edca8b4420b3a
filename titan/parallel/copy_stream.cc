#include "titan/parallel/copy_stream.h"

#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace titan {
namespace {

c10::Stream CurrentStream(at::Device device) { return c10::impl::VirtualGuardImpl(device.type()).getStream(device); }

// `later` goes on when what is on `earlier` now is done. Neither waits on the host.
void Order(const c10::Stream& earlier, const c10::Stream& later) {
  c10::Event event(earlier.device_type());
  event.record(earlier);
  event.block(later);
}

}  // namespace

CopyStream::CopyStream(at::Device device) : device_(device) {
  if (device.is_cpu()) return;
  stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, /*isHighPriority=*/false);
}

at::Tensor CopyStream::NewHostTensor(int64_t size, at::ScalarType dtype) const {
  return at::empty({size}, at::TensorOptions(at::kCPU).dtype(dtype).pinned_memory(stream_.has_value()));
}

void CopyStream::Run(const std::function<void()>& work) const {
  if (!stream_.has_value()) return work();
  Order(CurrentStream(device_), *stream_);
  const c10::StreamGuard guard(*stream_);
  work();
}

void CopyStream::CopyToHost(const at::Tensor& host_tensor, const at::Tensor& device_tensor) const {
  Run([&] { host_tensor.copy_(device_tensor, /*non_blocking=*/true); });
  // The memory belongs to the stream that it was allocated on, where it would be used again at once.
  if (stream_.has_value()) device_tensor.record_stream(*stream_);
}

void CopyStream::Join() const {
  if (stream_.has_value()) Order(*stream_, CurrentStream(device_));
}

CopyStream::Mark CopyStream::Now() const {
  Mark mark;
  if (stream_.has_value()) mark.event.emplace(stream_->device_type()).record(*stream_);
  return mark;
}

void CopyStream::Join(const Mark& mark) const {
  if (mark.event.has_value()) mark.event->block(CurrentStream(device_));
}

void CopyStream::Finish() const {
  if (stream_.has_value()) stream_->synchronize();
}

}  // namespace titan
