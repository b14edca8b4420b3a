// The processes of a run, as one of them sees them.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<World> world, World::Join(experiment, identity, device));
//   TITAN_ASSIGN_OR_RETURN(const std::string decision, world->FromFirst(world->is_first() ? Decide() : ""));

#ifndef TITAN_TRAIN_WORLD_H_
#define TITAN_TRAIN_WORLD_H_

#include <c10/core/Device.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "titan/parallel/groups.h"
#include "titan/train/flags.h"
#include "titan/train/run_directory.h"

namespace titan::config {
class Experiment;
}

namespace titan {

class World {
 public:
  // Waits until all processes that the experiment's cluster has are there. InvalidArgument for a mesh that does not
  // fill the world; Unavailable with ExitCode::kPeerLost if someone does not come in time.
  static absl::StatusOr<std::unique_ptr<World>> Join(const config::Experiment& experiment, const RankIdentity& identity,
                                                     c10::Device device);

  const ParallelGroups& groups() const { return *groups_; }
  int64_t size() const { return groups_->world().size(); }
  // The one that writes the run directory and talks to the user.
  int64_t rank() const { return groups_->rank(); }
  bool is_first() const { return groups_->rank() == 0; }

  // What the first process passes, on all of them.
  absl::StatusOr<std::string> FromFirst(const std::string& text) const;
  // Ok if all processes pass ok. Else the error that this one passes, or one that names the first that passes one.
  absl::Status Agree(const absl::Status& mine) const;
  // Returns when all are here; after `limit`, if given, instead of the experiment's, the rest is lost.
  absl::Status Meet(std::optional<std::chrono::seconds> limit = std::nullopt) const;
  // Tells the others that this process ends because of `reason`.
  void Abort(const std::string& reason) const { transport_->Abort(reason); }

 private:
  World(std::unique_ptr<Transport> transport, std::unique_ptr<ParallelGroups> groups, c10::Device device)
      : transport_(std::move(transport)), groups_(std::move(groups)), device_(device) {}

  std::unique_ptr<Transport> transport_;
  std::unique_ptr<ParallelGroups> groups_;
  c10::Device device_;
};

// Gives all processes what rank 0 has decided about the run directory.
absl::Status ShareRunDirectory(const World& world, RunDirectory& directory);

}  // namespace titan

#endif  // TITAN_TRAIN_WORLD_H_
