#include "titan/optim/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"
#include "titan/parallel/groups.h"
#include "titan/plan/unit_layout.h"

namespace titan {
namespace {

using nlohmann::json;

config::Optimizer Config(const std::string& fields) {
  config::Optimizer optimizer;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(fields, &optimizer));
  return optimizer;
}

// One unit with parameters of these names and shapes.
ModelSpec SpecOf(const std::vector<std::pair<std::string, std::vector<int64_t>>>& parameters) {
  BlockSpec block{.kind = BlockKind::kLayer, .name = "block", .parameters = {}, .shared_parameters = {}};
  for (const auto& [name, shape] : parameters) {
    const TensorSplit split = shape.size() == 1 ? TensorSplit::kReplicated : TensorSplit::kColumn;
    block.parameters.push_back({.name = name, .shape = shape, .init = {}, .split = split});
  }
  return {.blocks = {block}};
}

// Fixed values of both signs, in a matrix of full rank.
at::Tensor Values(at::IntArrayRef shape, double phase) {
  int64_t size = 1;
  for (const int64_t extent : shape) size *= extent;
  return at::arange(size, at::kDouble).square().mul(0.37).add(phase).sin().to(at::kFloat).reshape(shape);
}

// A unit on one process, whose gradients are told.
struct OneUnit {
  OneUnit(const config::Optimizer& config, ModelSpec of, at::ScalarType compute_dtype,
          const std::map<std::string, at::Tensor>& start)
      : spec(std::move(of)), groups(ParallelGroups::Single()) {
    parameters = Parameters::Create(spec, *groups, {.compute_dtype = compute_dtype, .owned_blocks = {}},
                                    [&](const ParameterSpec& parameter) -> absl::StatusOr<at::Tensor> {
                                      return start.at(parameter.name);
                                    })
                     .value();
    optimizer =
        Optimizer::Create(config, spec, *parameters, *groups, {.device = at::kCPU, .matrix_dtype = compute_dtype})
            .value();
  }

  void Step(const std::vector<at::Tensor>& gradients, double lr_factor = 1, double gradient_scale = 1) {
    parameters->BeginStep(1);
    parameters->AddGradients(0, gradients);
    parameters->FinishGradients();
    optimizer->Update(lr_factor, gradient_scale);
    parameters->FinishUpdate();
  }

  at::Tensor Of(size_t parameter, const std::vector<at::Tensor>& units) const {
    return parameters->View(parameters->pieces()[parameter], units);
  }
  at::Tensor Master(size_t parameter) const { return Of(parameter, parameters->masters()); }

  ModelSpec spec;
  std::unique_ptr<ParallelGroups> groups;
  std::unique_ptr<Parameters> parameters;
  std::unique_ptr<Optimizer> optimizer;
};

at::Tensor FromJson(const json& numbers, const std::vector<int64_t>& shape) {
  return at::tensor(numbers.get<std::vector<float>>()).reshape(shape);
}

double Distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

// testdata/muon.json, made by torch.optim.Muon.
class MuonGoldenTest : public ::testing::TestWithParam<bool> {};

TEST_P(MuonGoldenTest, FollowsTorch) {
  const bool in_bfloat16 = GetParam();
  const json golden = json::parse(ReadFile("titan/optim/testdata/muon.json").value());
  const auto shapes = golden["shapes"].get<std::vector<std::vector<int64_t>>>();
  for (const json& one : golden["cases"]) {
    const json& settings = one["settings"];
    std::vector<std::pair<std::string, std::vector<int64_t>>> parameters;
    std::map<std::string, at::Tensor> start;
    for (size_t i = 0; i < shapes.size(); ++i) {
      parameters.emplace_back(absl::StrCat("w", i), shapes[i]);
      start[absl::StrCat("w", i)] = FromJson(golden["start"][i], shapes[i]);
    }
    config::Optimizer config = Config("name: NAME_MUON");
    config.set_lr(settings["lr"]);
    config.set_weight_decay(settings["weight_decay"]);
    config.set_momentum(settings["momentum"]);
    config.set_nesterov(settings["nesterov"]);
    config.set_ns_steps(settings["ns_steps"]);
    config.set_adjust_lr_fn(settings["adjust_lr_fn"] == "original" ? config::Optimizer::ADJUST_LR_ORIGINAL
                                                                   : config::Optimizer::ADJUST_LR_MATCH_RMS_ADAMW);
    OneUnit model(config, SpecOf(parameters), in_bfloat16 ? at::kBFloat16 : at::kFloat, start);
    for (const json& gradients : golden["gradients"]) {
      std::vector<at::Tensor> step;
      for (size_t i = 0; i < shapes.size(); ++i) step.push_back(FromJson(gradients[i], shapes[i]));
      model.Step(step);
    }
    const json& expected = one[in_bfloat16 ? "bfloat16" : "float32"];
    const auto units = model.optimizer->StateUnits();
    ASSERT_EQ(units.back().first, "optimizer.momentum.");
    for (size_t i = 0; i < shapes.size(); ++i) {
      // Between torch's own two ways lie up to 1e-3.
      const double tolerance = in_bfloat16 ? settings["lr"].get<double>() * 0.005 : 1e-6;
      EXPECT_LE(Distance(model.Master(i), FromJson(expected["parameters"][i], shapes[i])), tolerance) << settings;
      EXPECT_LE(Distance(model.Of(i, *units.back().second), FromJson(expected["momentum"][i], shapes[i])), 1e-7);
      if (in_bfloat16) {
        EXPECT_TRUE(at::equal(model.Of(i, model.parameters->copies()), model.Master(i).to(at::kBFloat16)));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, MuonGoldenTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "bfloat16" : "float32"; });

TEST(MuonTest, OrthogonalisesNearly) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{20, 50}, {50, 20}}) {
    const at::Tensor matrix = Values(shape, 0.5), before = matrix.clone();
    const at::Tensor x = Orthogonalize(matrix, 8);
    EXPECT_TRUE(at::equal(matrix, before));
    ASSERT_EQ(x.sizes(), matrix.sizes());
    const at::Tensor gram = shape[0] < shape[1] ? x.mm(x.t()) : x.t().mm(x);
    EXPECT_LT(Distance(gram, at::eye(20)), 0.6);  // singular values of about 0.7 to 1.2
    EXPECT_GT(gram.diagonal().min().item<double>(), 0.3);
  }
}

TEST(MuonTest, AMatrixOfZerosStaysOne) { EXPECT_EQ(Orthogonalize(at::zeros({3, 4}), 5).abs().max().item<double>(), 0); }

const std::vector<std::pair<std::string, std::vector<int64_t>>> kMixed = {
    {"norm.weight", {70}}, {"wq.weight", {8, 70}}, {"bias", {5}}, {"wo.weight", {70, 8}}};

struct Mixed {
  Mixed() {
    for (const auto& [name, shape] : kMixed) start[name] = Values(shape, static_cast<double>(start.size()));
    for (int64_t step = 0; step < 3; ++step) {
      gradients.emplace_back();
      for (const auto& [name, shape] : kMixed) gradients.back().push_back(Values(shape, 10.0 + 3.0 * step));
    }
  }
  std::map<std::string, at::Tensor> start;
  std::vector<std::vector<at::Tensor>> gradients;
};

// A group with settings of its own does what an optimizer with those settings does; the others are as without it.
TEST(OptimizerTest, GroupsStepWithTheirOwnSettings) {
  const Mixed mixed;
  const std::string own = "lr: 0.01 weight_decay: 0.1",
                    other = "lr: 0.03 weight_decay: 0 beta1: 0.8 beta2: 0.9 eps: 1e-6";
  OneUnit all_own(Config(own), SpecOf(kMixed), at::kFloat, mixed.start);
  OneUnit all_other(Config(other), SpecOf(kMixed), at::kFloat, mixed.start);
  OneUnit both(Config(absl::StrCat(own, " param_groups { pattern: '^(norm|bias)' ", other, " }")), SpecOf(kMixed),
               at::kFloat, mixed.start);
  for (const std::vector<at::Tensor>& gradients : mixed.gradients) {
    for (OneUnit* model : {&all_own, &all_other, &both}) model->Step(gradients, 0.5, 0.25);
  }
  for (size_t i = 0; i < kMixed.size(); ++i) {
    const bool is_other = kMixed[i].second.size() == 1;
    EXPECT_TRUE(at::equal(both.Master(i), (is_other ? all_other : all_own).Master(i))) << kMixed[i].first;
    EXPECT_FALSE(at::equal(both.Master(i), (is_other ? all_own : all_other).Master(i))) << kMixed[i].first;
  }
}

TEST(OptimizerTest, MuonHasOneAverageAndAdamWTwo) {
  const Mixed mixed;
  OneUnit model(Config("name: NAME_MUON lr: 0.02 param_groups { pattern: '^(norm|bias)' lr: 0.003 }"), SpecOf(kMixed),
                at::kFloat, mixed.start);
  OneUnit adamw(Config("lr: 0.003"), SpecOf(kMixed), at::kFloat, mixed.start);
  for (const std::vector<at::Tensor>& gradients : mixed.gradients) {
    model.Step(gradients);
    adamw.Step(gradients);
  }
  EXPECT_TRUE(at::equal(model.Master(0), adamw.Master(0)));
  EXPECT_TRUE(at::equal(model.Master(2), adamw.Master(2)));
  EXPECT_FALSE(at::equal(model.Master(1), adamw.Master(1)));
  EXPECT_TRUE(model.optimizer->HasState("optimizer.momentum.", "wq.weight"));
  EXPECT_FALSE(model.optimizer->HasState("optimizer.exp_avg.", "wq.weight"));
  EXPECT_TRUE(model.optimizer->HasState("optimizer.exp_avg_sq.", "bias"));
  EXPECT_FALSE(model.optimizer->HasState("optimizer.momentum.", "bias"));
  EXPECT_TRUE(model.optimizer->HasState("model.", "wq.weight"));
  // What a plan counts is what is there.
  const ParamGroups groups =
      ResolveParamGroups(Config("name: NAME_MUON param_groups { pattern: '^(norm|bias)' }"), model.spec).value();
  const UnitLayout layout = LayOutUnit(model.spec.blocks[0], 1, 1).value();
  const auto units = model.optimizer->StateUnits();
  ASSERT_EQ(units[1].first, "optimizer.exp_avg_sq.");
  EXPECT_EQ(units[1].second->front().numel(), NumSquares(model.spec.blocks[0], layout, groups, 0));
  EXPECT_LT(units[1].second->front().numel(), 200);
  EXPECT_EQ(adamw.optimizer->StateUnits()[1].second->front().numel(), layout.shard_size);
}

TEST(OptimizerTest, StateInBfloat16) {
  const Mixed mixed;
  const std::string muon = "name: NAME_MUON lr: 0.02 param_groups { pattern: '^(norm|bias)' lr: 0.003 }";
  OneUnit exact(Config(muon), SpecOf(kMixed), at::kFloat, mixed.start);
  OneUnit rounded(Config(muon + " state_in_bfloat16: true"), SpecOf(kMixed), at::kFloat, mixed.start);
  for (const std::vector<at::Tensor>& gradients : mixed.gradients) {
    exact.Step(gradients);
    rounded.Step(gradients);
  }
  for (const auto& [prefix, units] : rounded.optimizer->StateUnits()) {
    EXPECT_EQ(units->front().scalar_type(), at::kBFloat16) << prefix;
  }
  for (size_t i = 0; i < kMixed.size(); ++i) {
    EXPECT_LT(Distance(rounded.Master(i), exact.Master(i)), 2e-3) << kMixed[i].first;
    EXPECT_GT(Distance(rounded.Master(i), exact.Master(i)), 0) << kMixed[i].first;
  }
}

}  // namespace
}  // namespace titan
