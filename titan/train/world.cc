#include "titan/train/world.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/plan/mesh.h"
#include "titan/train/exit_code.h"
#include "titan/train/torch_errors.h"

namespace titan {

absl::StatusOr<std::unique_ptr<World>> World::Join(const config::Experiment& experiment, const RankIdentity& identity,
                                                   c10::Device device) {
  TITAN_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(experiment.parallelism(), identity.world_size));
  absl::StatusOr<std::unique_ptr<Transport>> transport =
      ConnectTransport({.rank = identity.rank,
                        .world_size = identity.world_size,
                        .host = identity.host,
                        .port = identity.port,
                        .listen_socket = static_cast<int>(identity.listen_socket),
                        .device = device,
                        .init_timeout = std::chrono::seconds(experiment.comm().init_timeout_seconds()),
                        .timeout = std::chrono::seconds(experiment.comm().train_timeout_seconds())});
  if (absl::IsUnavailable(transport.status())) return WithExitCode(transport.status(), ExitCode::kPeerLost);
  TITAN_RETURN_IF_ERROR(transport.status());
  std::unique_ptr<ParallelGroups> groups;
  TITAN_RETURN_IF_ERROR(CatchTorchErrors("joining the other processes", [&]() -> absl::Status {
    TITAN_ASSIGN_OR_RETURN(groups, ParallelGroups::Create(**transport, mesh));
    return absl::OkStatus();
  }));
  return std::unique_ptr<World>(new World(*std::move(transport), std::move(groups), device));
}

absl::StatusOr<std::string> World::FromFirst(const std::string& text) const {
  std::string received;
  TITAN_RETURN_IF_ERROR(CatchTorchErrors("a message from rank 0", [&]() -> absl::Status {
    const auto broadcast = [&](const at::Tensor& host) {  // on the CPU
      const at::Tensor tensor = host.to(device_);
      groups_->world().Broadcast(tensor, /*root=*/0).Wait();
      return tensor.cpu();
    };
    at::Tensor size = at::empty({1}, at::kLong);
    size.mutable_data_ptr<int64_t>()[0] = static_cast<int64_t>(text.size());
    size = broadcast(size);
    at::Tensor bytes = at::empty({size.const_data_ptr<int64_t>()[0]}, at::kByte);
    if (bytes.numel() == 0) return absl::OkStatus();
    if (is_first()) std::memcpy(bytes.mutable_data_ptr<uint8_t>(), text.data(), text.size());
    bytes = broadcast(bytes);
    received.assign(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()), static_cast<size_t>(bytes.numel()));
    return absl::OkStatus();
  }));
  return received;
}

absl::Status World::Agree(const absl::Status& mine) const {
  int64_t bad = -1;
  TITAN_RETURN_IF_ERROR(CatchTorchErrors("hearing how the other processes are", [&] {
    const at::Tensor flag = at::full({1}, mine.ok() ? 0 : 1, at::TensorOptions(device_).dtype(at::kLong));
    const at::Tensor all = at::empty({size()}, flag.options());
    groups_->world().AllGather(all, flag).Wait();
    const at::Tensor flags = all.cpu();
    const int64_t* const first = flags.const_data_ptr<int64_t>();
    const int64_t* const found = std::find(first, first + size(), 1);
    if (found != first + size()) bad = found - first;
    return absl::OkStatus();
  }));
  if (bad < 0 || !mine.ok()) return mine;
  return absl::InvalidArgumentError(absl::StrCat("rank ", bad, " cannot start, and says why"));
}

absl::Status World::Meet(std::optional<std::chrono::seconds> limit) const {
  return CatchTorchErrors("waiting for the other processes", [&] {
    groups_->world().Barrier(limit);
    return absl::OkStatus();
  });
}

absl::Status ShareRunDirectory(const World& world, RunDirectory& directory) {
  const nlohmann::json mine = {
      {"path", directory.path}, {"checkpoint", directory.checkpoint}, {"checkpoint_step", directory.checkpoint_step}};
  TITAN_ASSIGN_OR_RETURN(const std::string text, world.FromFirst(mine.dump()));
  if (world.is_first()) return absl::OkStatus();
  const nlohmann::json decided = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (decided.is_discarded()) return absl::InternalError("rank 0 sent a run directory that cannot be read");
  directory = {
      .path = decided["path"], .checkpoint = decided["checkpoint"], .checkpoint_step = decided["checkpoint_step"]};
  return absl::OkStatus();
}

}  // namespace titan
