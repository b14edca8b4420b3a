#include "titan/plan/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

config::Parallelism Degrees(int64_t pp, int64_t dp_replicate, int64_t dp_shard, int64_t cp, int64_t tp) {
  config::Parallelism parallelism;
  parallelism.set_pipeline_parallel_degree(pp);
  parallelism.set_data_parallel_replicate_degree(dp_replicate);
  parallelism.set_data_parallel_shard_degree(dp_shard);
  parallelism.set_context_parallel_degree(cp);
  parallelism.set_tensor_parallel_degree(tp);
  return parallelism;
}

TEST(Mesh, NumbersTheRanksRowByRowOutermostFirst) {
  const absl::StatusOr<Mesh> mesh = Mesh::Create(Degrees(2, 1, 2, 1, 2), 8);
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  EXPECT_EQ(mesh->Coordinate(MeshAxis::kPp, 5), 1);
  EXPECT_EQ(mesh->Coordinate(MeshAxis::kDpShard, 5), 0);
  EXPECT_EQ(mesh->Coordinate(MeshAxis::kTp, 5), 1);
  EXPECT_THAT(mesh->Group({MeshAxis::kTp}, 5), ElementsAre(4, 5));
  EXPECT_THAT(mesh->Group({MeshAxis::kDpShard, MeshAxis::kCp}, 5), ElementsAre(5, 7));
  EXPECT_THAT(mesh->Group({MeshAxis::kPp}, 5), ElementsAre(1, 5));
  EXPECT_EQ(mesh->RankInGroup({MeshAxis::kPp}, 5), 1);
  EXPECT_EQ(mesh->Describe(), "pp 2 x dp_shard 2 x tp 2");
}

TEST(Mesh, ShardDegreeTakesWhatIsLeft) {
  const absl::StatusOr<Mesh> mesh = Mesh::Create(Degrees(1, 2, -1, 1, 2), 16);
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  EXPECT_EQ(mesh->size(MeshAxis::kDpShard), 4);
  EXPECT_EQ(mesh->size({MeshAxis::kDpShard, MeshAxis::kTp}), 8);
}

TEST(Mesh, SpellsOutAProductThatIsNotTheWorld) {
  const absl::StatusOr<Mesh> mesh = Mesh::Create(Degrees(1, 2, 3, 1, 1), 8);
  EXPECT_EQ(mesh.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(mesh.status().message(),
              HasSubstr("pp(1) * dp_replicate(2) * dp_shard(3) * cp(1) * tp(1) = 6 != world size (8)"));
}

TEST(Mesh, RefusesAWorldThatTheOtherDegreesDoNotDivide) {
  const absl::StatusOr<Mesh> mesh = Mesh::Create(Degrees(1, 1, -1, 1, 3), 8);
  EXPECT_THAT(mesh.status().message(),
              HasSubstr("pp(1) * dp_replicate(1) * cp(1) * tp(3) = 3 does not divide the world size (8)"));
}

TEST(Mesh, KnowsTheSmallestWorld) {
  EXPECT_EQ(Mesh::SmallestWorldSize(Degrees(2, 2, -1, 1, 2)), 8);
  EXPECT_EQ(Mesh::SmallestWorldSize(Degrees(1, 1, 4, 1, 1)), 4);
}

}  // namespace
}  // namespace titan
