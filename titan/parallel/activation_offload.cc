#include "titan/parallel/activation_offload.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <c10/core/Storage.h>

#include <algorithm>

namespace titan {

class ActivationParcel {
 public:
  enum class Place {
    kLeaving,  // is being copied to the host; the memory of the device is still taken
    kAway,     // on the host alone
    kComing,   // is being copied back, into memory that the storages have already
    kBack,     // where it was
  };
  struct Item {
    c10::Storage storage;  // what the graph holds
    at::Tensor host;       // (bytes) uint8
    at::DataPtr memory;    // on the device, while it leaves
  };

  Place place = Place::kLeaving;
  std::vector<Item> items;
  int64_t due = 0;        // value of blocks_done_ at which the memory is given back
  CopyStream::Mark copy;  // the last one of the way there, or of the way back
};

namespace {

using Place = ActivationParcel::Place;

// All of it, (bytes) uint8.
at::Tensor BytesOf(const c10::Storage& storage) {
  at::Tensor bytes = at::empty({0}, at::TensorOptions(storage.device()).dtype(at::kByte));
  return bytes.set_(storage, 0, {static_cast<int64_t>(storage.nbytes())}, {1});
}

at::DataPtr NoMemory(const c10::Storage& storage) { return at::DataPtr(nullptr, storage.device()); }

at::DataPtr NewMemory(const c10::Storage& storage) {
  const at::Tensor bytes =
      at::empty({static_cast<int64_t>(storage.nbytes())}, at::TensorOptions(storage.device()).dtype(at::kByte));
  return bytes.storage().set_data_ptr(NoMemory(storage));
}

}  // namespace

bool ActivationOffload::IsTaken(const c10::Storage& storage, const std::vector<at::Tensor>& others) const {
  const auto is_it = [&](const at::Tensor& tensor) {
    return tensor.defined() && tensor.storage().unsafeGetStorageImpl() == storage.unsafeGetStorageImpl();
  };
  return storage.device_type() == options_.device.type() && storage.data() != nullptr &&
         static_cast<int64_t>(storage.nbytes()) >= std::max<int64_t>(options_.min_bytes, 1) &&
         std::none_of(others.begin(), others.end(), is_it);
}

at::Tensor ActivationOffload::TakeHostMemory(int64_t bytes) {
  std::vector<at::Tensor>& free = free_host_memory_[bytes];
  if (free.empty()) {
    host_bytes_ += bytes;
    return down_.NewHostTensor(bytes, at::kByte);
  }
  // Its last copy to the device is done before what the device computed with it, and so before the next one to it.
  at::Tensor memory = std::move(free.back());
  free.pop_back();
  return memory;
}

std::shared_ptr<ActivationParcel> ActivationOffload::PutAway(const std::vector<c10::Storage>& saved,
                                                             const std::vector<at::Tensor>& others) {
  const c10::AutoGradMode no_grad(false);
  auto parcel = std::make_shared<ActivationParcel>();
  for (const c10::Storage& storage : saved) {
    if (!IsTaken(storage, others)) continue;
    parcel->items.push_back(
        {.storage = storage, .host = TakeHostMemory(static_cast<int64_t>(storage.nbytes())), .memory = {}});
  }
  down_.Run([&] {
    for (const auto& item : parcel->items) item.host.copy_(BytesOf(item.storage), /*non_blocking=*/true);
  });
  parcel->copy = down_.Now();
  for (auto& item : parcel->items) item.memory = item.storage.set_data_ptr(NoMemory(item.storage));
  parcel->due = blocks_done_ + 1 + options_.lag;  // this block itself is not done yet
  leaving_.push_back(parcel);
  return parcel;
}

void ActivationOffload::BlockDone() {
  ++blocks_done_;
  while (!leaving_.empty() && leaving_.front()->due <= blocks_done_) {
    GiveBack(*leaving_.front());
    leaving_.pop_front();
  }
}

void ActivationOffload::GiveBack(ActivationParcel& parcel) {
  if (parcel.place != Place::kLeaving) return;
  // Who gets the memory next, in the order of the device's stream, comes after the copy.
  down_.Join(parcel.copy);
  for (auto& item : parcel.items) item.memory.clear();
  parcel.place = Place::kAway;
}

void ActivationOffload::StartFetch(ActivationParcel& parcel) {
  const c10::AutoGradMode no_grad(false);
  if (parcel.place == Place::kLeaving) {  // as good as back
    down_.Join(parcel.copy);
    for (auto& item : parcel.items) item.storage.set_data_ptr_noswap(std::move(item.memory));
    parcel.place = Place::kBack;
  } else if (parcel.place == Place::kAway) {
    for (const auto& item : parcel.items) item.storage.set_data_ptr_noswap(NewMemory(item.storage));
    up_.Run([&] {
      for (const auto& item : parcel.items) BytesOf(item.storage).copy_(item.host, /*non_blocking=*/true);
    });
    parcel.copy = up_.Now();
    parcel.place = Place::kComing;
  }
}

void ActivationOffload::FinishFetch(ActivationParcel& parcel) {
  StartFetch(parcel);
  if (parcel.place == Place::kComing) up_.Join(parcel.copy);
  parcel.place = Place::kBack;
  for (auto& item : parcel.items) free_host_memory_[item.host.numel()].push_back(std::move(item.host));
  parcel.items.clear();  // backward frees what it has read
}

}  // namespace titan
