#include "titan/parallel/whole_matrices.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "titan/config/experiment.pb.h"
#include "titan/parallel/multi_process_test.h"
#include "titan/plan/unit_layout.h"

namespace titan {
namespace {

// Two units: pieces of a matrix are on all ranks, on some, on one.
std::vector<BlockSpec> Blocks() {
  const auto parameter = [](const char* name, std::vector<int64_t> shape, TensorSplit split) {
    return ParameterSpec{.name = name, .shape = std::move(shape), .init = {}, .split = split};
  };
  return {{.kind = BlockKind::kLayer,
           .name = "first",
           .parameters = {parameter("norm", {64}, TensorSplit::kReplicated),
                          parameter("column", {24, 40}, TensorSplit::kColumn),
                          parameter("row", {12, 32}, TensorSplit::kRow),
                          parameter("small", {4, 3}, TensorSplit::kReplicated)},
           .shared_parameters = {}},
          {.kind = BlockKind::kLayer,
           .name = "second",
           .parameters = {parameter("tall", {100, 8}, TensorSplit::kColumn)},
           .shared_parameters = {}}};
}

at::Tensor Values(const std::vector<int64_t>& shape, double phase) {
  return at::arange(shape[0] * shape[1], at::kDouble).mul(0.37).add(phase).sin().view(shape);
}

// Not elementwise: each element of the result depends on the whole matrix.
at::Tensor Function(const at::Tensor& matrix) { return matrix.mm(matrix.t()).mm(matrix) + matrix.sum(); }

struct Setup {
  explicit Setup(const ParallelGroups& groups) {
    const int64_t tp_size = groups.tp().size(), num_ranks = groups.fsdp().size(), here = groups.fsdp().rank();
    for (const BlockSpec& block : Blocks()) {
      const UnitLayout layout = LayOutUnit(block, tp_size, num_ranks).value();
      for (size_t i = 0; i < block.parameters.size(); ++i) {
        const ParameterSpec& parameter = block.parameters[i];
        if (parameter.shape.size() != 2) continue;
        const int64_t start = layout.offsets[i];
        matrices.push_back({.shape = parameter.shape,
                            .split = parameter.split,
                            .local_shape = layout.local_shapes[i],
                            .start = start,
                            .shard_size = layout.shard_size});
        const auto piece_of = [&](const at::Tensor& whole) {
          const int64_t dimension = SplitDimension(parameter.split), extent = layout.local_shapes[i][dimension];
          const bool is_split = parameter.split != TensorSplit::kReplicated;
          const at::Tensor part =
              (is_split ? whole.narrow(dimension, groups.tp().rank() * extent, extent) : whole).reshape({-1});
          const int64_t begin = std::clamp<int64_t>(here * layout.shard_size - start, 0, part.numel());
          const int64_t end = std::clamp<int64_t>((here + 1) * layout.shard_size - start, 0, part.numel());
          return part.narrow(0, begin, end - begin).clone();
        };
        const at::Tensor whole = Values(parameter.shape, static_cast<double>(matrices.size()));
        pieces.push_back(piece_of(whole));
        expected.push_back(piece_of(Function(whole)));
      }
    }
  }

  std::vector<WholeMatrices::Matrix> matrices;
  std::vector<at::Tensor> pieces, expected;
};

void ExpectMapped(const ParallelGroups& groups) {
  const Setup setup(groups);
  const WholeMatrices matrices(groups, setup.matrices);
  double calls = 0;
  const std::vector<at::Tensor> results = matrices.Map(setup.pieces, [&](const at::Tensor& whole) {
    calls += whole.size(0) == 4 ? 1.0 / static_cast<double>(groups.tp().size()) : 1;  // "small" is not split
    return Function(whole);
  });
  ASSERT_EQ(results.size(), setup.expected.size());
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_EQ(results[i].sizes(), setup.expected[i].sizes()) << i;
    if (results[i].numel() == 0) continue;
    EXPECT_LT((results[i] - setup.expected[i]).abs().max().item<double>(), 1e-12) << i;
  }
  // Each matrix was worked on once by all replicas together.
  const at::Tensor sum = at::full({1}, calls, at::kDouble);
  groups.world().AllReduce(sum).Wait();
  EXPECT_NEAR(sum.item<double>(), 4.0 * static_cast<double>(groups.replicate().size()), 1e-9);
}

TEST(WholeMatricesTest, OneProcess) {
  EXPECT_EQ(RunRanks(1, [](Transport&) { ExpectMapped(*ParallelGroups::Single()); }), "");
}

TEST(WholeMatricesTest, EveryMesh) {
  struct Degrees {
    int64_t replicate, shard, cp, tp;
  };
  EXPECT_EQ(RunRanks(4,
                     [](Transport& transport) {
                       const std::vector<Degrees> meshes = {{1, 4, 1, 1}, {1, 1, 1, 4}, {1, 2, 1, 2}, {1, 1, 2, 2},
                                                            {2, 2, 1, 1}, {2, 1, 1, 2}, {1, 2, 2, 1}};
                       for (const Degrees& d : meshes) {
                         config::Parallelism parallelism;
                         parallelism.set_data_parallel_replicate_degree(d.replicate);
                         parallelism.set_data_parallel_shard_degree(d.shard);
                         parallelism.set_context_parallel_degree(d.cp);
                         parallelism.set_tensor_parallel_degree(d.tp);
                         const Mesh mesh = Mesh::Create(parallelism, 4).value();
                         SCOPED_TRACE(mesh.Describe());
                         const auto groups = ParallelGroups::Create(transport, mesh, mesh.Describe()).value();
                         ExpectMapped(*groups);
                       }
                     }),
            "");
}

}  // namespace
}  // namespace titan
