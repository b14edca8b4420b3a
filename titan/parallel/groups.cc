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

std::vector<std::pair<std::string, const Communicator*>> ParallelGroups::All() const {
  return {{"world", world_.get()}, {"fsdp", fsdp_.get()}, {"replicate", replicate_.get()},
          {"cp", cp_.get()},       {"tp", tp_.get()},     {"pp", pp_.get()}};
}

}  // namespace titan
