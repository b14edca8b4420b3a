#include "titan/plan/mesh.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr std::array<const char*, kNumMeshAxes> kNames = {"pp", "dp_replicate", "dp_shard", "cp", "tp"};
constexpr size_t kDpShardIndex = static_cast<size_t>(MeshAxis::kDpShard);

// "pp(1) * dp_replicate(2) * dp_shard(3) * cp(1) * tp(1)", without the axis `skip`.
std::string Product(const std::array<int64_t, kNumMeshAxes>& sizes, size_t skip = kNumMeshAxes) {
  std::vector<std::string> factors;
  for (size_t axis = 0; axis < kNumMeshAxes; ++axis) {
    if (axis != skip) factors.push_back(absl::StrCat(kNames[axis], "(", sizes[axis], ")"));
  }
  return absl::StrJoin(factors, " * ");
}

std::array<int64_t, kNumMeshAxes> Degrees(const config::Parallelism& p) {
  return {p.pipeline_parallel_degree(), p.data_parallel_replicate_degree(), p.data_parallel_shard_degree(),
          p.context_parallel_degree(), p.tensor_parallel_degree()};
}

}  // namespace

absl::StatusOr<Mesh> Mesh::Create(const config::Parallelism& parallelism, int64_t world_size) {
  std::array<int64_t, kNumMeshAxes> sizes = Degrees(parallelism);
  if (sizes[kDpShardIndex] == -1) {
    int64_t others = 1;
    for (size_t axis = 0; axis < kNumMeshAxes; ++axis) others *= axis == kDpShardIndex ? 1 : sizes[axis];
    if (world_size % others != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "parallelism: ", Product(sizes, kDpShardIndex), " = ", others, " does not divide the world size (",
          world_size, "), so that data_parallel_shard_degree -1 has nothing whole to take; start a multiple of ",
          others, " processes, or change a degree"));
    }
    sizes[kDpShardIndex] = world_size / others;
  }
  const Mesh mesh(sizes);
  if (mesh.world_size() != world_size) {
    return absl::InvalidArgumentError(absl::StrCat("parallelism: ", Product(sizes), " = ", mesh.world_size(),
                                                   " != world size (", world_size, "); change a degree, or start ",
                                                   mesh.world_size(),
                                                   " processes (data_parallel_shard_degree -1 takes what is left)"));
  }
  return mesh;
}

int64_t Mesh::SmallestWorldSize(const config::Parallelism& parallelism) {
  int64_t product = 1;
  for (const int64_t degree : Degrees(parallelism)) product *= std::max<int64_t>(degree, 1);
  return product;
}

int64_t Mesh::world_size() const {
  int64_t product = 1;
  for (const int64_t size : sizes_) product *= size;
  return product;
}

int64_t Mesh::size(std::initializer_list<MeshAxis> axes) const {
  int64_t product = 1;
  for (const MeshAxis axis : axes) product *= size(axis);
  return product;
}

int64_t Mesh::Coordinate(MeshAxis axis, int64_t rank) const {
  int64_t stride = 1;
  for (size_t inner = static_cast<size_t>(axis) + 1; inner < kNumMeshAxes; ++inner) stride *= sizes_[inner];
  return rank / stride % size(axis);
}

int64_t Mesh::RankInGroup(std::initializer_list<MeshAxis> axes, int64_t rank) const {
  const std::vector<int64_t> group = Group(axes, rank);
  return std::find(group.begin(), group.end(), rank) - group.begin();
}

std::vector<int64_t> Mesh::Group(std::initializer_list<MeshAxis> axes, int64_t rank) const {
  std::vector<int64_t> members;
  for (int64_t other = 0; other < world_size(); ++other) {
    bool same = true;
    for (size_t i = 0; i < kNumMeshAxes; ++i) {
      const auto axis = static_cast<MeshAxis>(i);
      const bool free = std::find(axes.begin(), axes.end(), axis) != axes.end();
      same = same && (free || Coordinate(axis, other) == Coordinate(axis, rank));
    }
    if (same) members.push_back(other);
  }
  return members;
}

std::string Mesh::Describe() const {
  std::vector<std::string> factors;
  for (size_t axis = 0; axis < kNumMeshAxes; ++axis) {
    if (sizes_[axis] > 1) factors.push_back(absl::StrCat(kNames[axis], " ", sizes_[axis]));
  }
  return factors.empty() ? "1 process" : absl::StrJoin(factors, " x ");
}

}  // namespace titan
