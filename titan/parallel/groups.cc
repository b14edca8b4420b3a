#include "titan/parallel/groups.h"

#include <initializer_list>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"

namespace titan {

absl::StatusOr<std::unique_ptr<ParallelGroups>> ParallelGroups::Create(Transport& transport, const Mesh& mesh,
                                                                       const std::string& name) {
  auto groups = std::unique_ptr<ParallelGroups>(new ParallelGroups(transport, mesh, name));
  const auto make = [&](const char* label, std::initializer_list<MeshAxis> axes,
                        std::unique_ptr<Communicator>& group) -> absl::Status {
    const std::vector<int64_t> ranks = mesh.Group(axes, groups->rank_);
    // Groups along the same axes are told apart by their first member.
    TITAN_ASSIGN_OR_RETURN(group, groups->NewGroup(absl::StrCat(label, ".", ranks.front()), ranks));
    return absl::OkStatus();
  };
  using enum MeshAxis;
  TITAN_RETURN_IF_ERROR(make("world", {kPp, kDpReplicate, kDpShard, kCp, kTp}, groups->world_));
  TITAN_RETURN_IF_ERROR(make("fsdp", {kDpShard, kCp}, groups->fsdp_));
  TITAN_RETURN_IF_ERROR(make("replicate", {kDpReplicate}, groups->replicate_));
  TITAN_RETURN_IF_ERROR(make("cp", {kCp}, groups->cp_));
  TITAN_RETURN_IF_ERROR(make("tp", {kTp}, groups->tp_));
  TITAN_RETURN_IF_ERROR(make("pp", {kPp}, groups->pp_));
  return groups;
}

std::unique_ptr<ParallelGroups> ParallelGroups::Single() {
  absl::StatusOr<std::unique_ptr<Transport>> transport = ConnectTransport(TransportOptions());
  CHECK_OK(transport.status());
  absl::StatusOr<std::unique_ptr<ParallelGroups>> groups = Create(**transport, Mesh::Single());
  CHECK_OK(groups.status());
  (*groups)->own_transport_ = *std::move(transport);
  return *std::move(groups);
}

Traffic ParallelGroups::traffic() const {
  return {{"world", world_->counts()}, {"fsdp", fsdp_->counts()}, {"replicate", replicate_->counts()},
          {"cp", cp_->counts()},       {"tp", tp_->counts()},     {"pp", pp_->counts()}};
}

Traffic Since(const Traffic& before, Traffic after) {
  for (auto& [axis, counts] : after) {
    const CommunicationCounts& earlier = before.at(axis);
    for (size_t kind = 0; kind < kNumCollectiveKinds; ++kind) {
      counts[kind].calls -= earlier[kind].calls;
      counts[kind].bytes_sent -= earlier[kind].bytes_sent;
    }
  }
  return after;
}

std::map<std::string, int64_t> BytesByAxis(const Traffic& traffic) {
  std::map<std::string, int64_t> bytes;
  for (const auto& [axis, counts] : traffic) {
    for (const CommunicationCount& count : counts) {
      if (count.bytes_sent > 0) bytes[axis] += count.bytes_sent;
    }
  }
  return bytes;
}

}  // namespace titan
