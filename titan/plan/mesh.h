// The mesh of a run: how the ranks of the world are arranged for each kind of parallelism. Ranks are numbered row by
// row over the axes, outermost first: pp, dp_replicate, dp_shard, cp, tp. No LibTorch here: the plan uses it, too.
//
//   absl::StatusOr<Mesh> mesh = Mesh::Create(experiment.parallelism(), /*world_size=*/8);
//   mesh->size(MeshAxis::kTp);                                     // 2
//   mesh->Group({MeshAxis::kDpShard, MeshAxis::kCp}, rank);        // who shares this rank's FSDP units

#ifndef TITAN_PLAN_MESH_H_
#define TITAN_PLAN_MESH_H_

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

// A generated message: its header is expensive, so that only the sources that look inside include it.
namespace titan::config {
class Parallelism;
}

namespace titan {

enum class MeshAxis { kPp, kDpReplicate, kDpShard, kCp, kTp };
inline constexpr size_t kNumMeshAxes = 5;

class Mesh {
 public:
  // Factors the world; dp_shard -1 takes what the others leave. InvalidArgument spells the product out.
  static absl::StatusOr<Mesh> Create(const config::Parallelism& parallelism, int64_t world_size);
  // One process.
  static Mesh Single() { return Mesh({1, 1, 1, 1, 1}); }
  // The smallest world that `parallelism` can run in: the product with a dp_shard of -1 taken as 1.
  static int64_t SmallestWorldSize(const config::Parallelism& parallelism);

  int64_t world_size() const;
  int64_t size(MeshAxis axis) const { return sizes_[static_cast<size_t>(axis)]; }
  int64_t size(std::initializer_list<MeshAxis> axes) const;  // their product
  // Where `rank` is on an axis.
  int64_t Coordinate(MeshAxis axis, int64_t rank) const;
  // Its number among the members of Group(axes, rank).
  int64_t RankInGroup(std::initializer_list<MeshAxis> axes, int64_t rank) const;
  // All ranks that differ from `rank` on these axes only, in ascending order, `rank` among them.
  std::vector<int64_t> Group(std::initializer_list<MeshAxis> axes, int64_t rank) const;
  // "pp 2 x dp_shard 2 x tp 2": the axes that are larger than one; "1 process" without any.
  std::string Describe() const;

 private:
  explicit Mesh(const std::array<int64_t, kNumMeshAxes>& sizes) : sizes_(sizes) {}

  std::array<int64_t, kNumMeshAxes> sizes_;
};

}  // namespace titan

#endif  // TITAN_PLAN_MESH_H_
