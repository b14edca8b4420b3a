// The communicators of one rank: one for each axis of the mesh that something travels along.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<ParallelGroups> groups, ParallelGroups::Create(*transport, mesh));
//   groups->tp().AllReduce(x).Wait();

#ifndef TITAN_PARALLEL_GROUPS_H_
#define TITAN_PARALLEL_GROUPS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/parallel/communicator.h"
#include "titan/plan/mesh.h"

namespace titan {

// What one rank has sent: by axis of the mesh ("fsdp", "tp", ...) and kind of operation.
using Traffic = std::map<std::string, CommunicationCounts>;

// What came on top of `before`, which is of the same rank.
Traffic Since(const Traffic& before, Traffic after);
// Of all kinds, where there are any.
std::map<std::string, int64_t> BytesByAxis(const Traffic& traffic);

class ParallelGroups {
 public:
  // Every rank of the mesh calls it. `transport` must outlive the result. The mesh may be smaller than the transport's
  // world; `name` tells apart several meshes of one transport.
  static absl::StatusOr<std::unique_ptr<ParallelGroups>> Create(Transport& transport, const Mesh& mesh,
                                                                const std::string& name = "mesh");
  // Of a world of one process.
  static std::unique_ptr<ParallelGroups> Single();

  const Mesh& mesh() const { return mesh_; }
  int64_t rank() const { return rank_; }
  // Where this rank is on an axis.
  int64_t coordinate(MeshAxis axis) const { return mesh_.Coordinate(axis, rank_); }

  Communicator& world() const { return *world_; }
  Communicator& fsdp() const { return *fsdp_; }            // dp_shard x cp: who shares the pieces of a unit
  Communicator& replicate() const { return *replicate_; }  // dp_replicate: who holds the same pieces
  Communicator& cp() const { return *cp_; }
  Communicator& tp() const { return *tp_; }
  Communicator& pp() const { return *pp_; }

  // A further group of this mesh, of the given global ranks; see Transport::NewGroup.
  absl::StatusOr<std::unique_ptr<Communicator>> NewGroup(const std::string& name,
                                                         const std::vector<int64_t>& ranks) const {
    return transport_->NewGroup(name_ + "." + name, ranks);
  }

  // See Transport::status.
  absl::Status status() const { return transport_->status(); }

  // Along "world", "fsdp", "replicate", "cp", "tp" and "pp" so far; a group made by NewGroup counts for itself.
  Traffic traffic() const;

 private:
  ParallelGroups(Transport& transport, const Mesh& mesh, const std::string& name)
      : transport_(&transport), mesh_(mesh), name_(name), rank_(transport.rank()) {}

  std::unique_ptr<Transport> own_transport_;  // of Single
  Transport* transport_;
  Mesh mesh_;
  std::string name_;
  int64_t rank_;
  std::unique_ptr<Communicator> world_, fsdp_, replicate_, cp_, tp_, pp_;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_GROUPS_H_
