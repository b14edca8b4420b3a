#include "tests/parity/rank.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/parity/layouts.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/train/allocator.h"
#include "titan/train/torch_errors.h"
#include "titan/train/trainer.h"

namespace titan {
namespace {

constexpr int64_t kSteps = 10;
constexpr int64_t kRows = 8;
constexpr int64_t kSeqLen = 16;
constexpr int64_t kVocab = 2048;

// The debug model, in full fp32, bitwise.
constexpr const char* kExperiment = R"({
  "model": {"name": "llama3", "dim": 256, "n_layers": 6, "n_heads": 16, "n_kv_heads": 16, "ffn_hidden_dim": 768,
            "vocab_size": 2048, "rope": {"theta": 500000}},
  "data": {"sources": [{"corpus": "synthetic"}]},
  "training": {"seq_len": 16, "local_batch_size": 8, "global_batch_size": 8, "steps": 10,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 8e-4},
  "lr_scheduler": {"warmup_steps": 2},
  "determinism": {"mode": "bitwise"}
})";

// Rows of several documents of different lengths; some labels are ignored, not equally many in each row.
Batch MakeBatch(int64_t step, int64_t seq_len = kSeqLen) {
  Batch batch{.rows = kRows, .seq_len = seq_len, .tokens = {}, .labels = {}, .positions = {}};
  uint64_t state = 1234567 + static_cast<uint64_t>(step);
  const auto next = [&](uint64_t limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int64_t>((state >> 33) % limit);
  };
  for (int64_t row = 0; row < kRows; ++row) {
    int64_t position = 0, length = 3 + next(15);
    for (int64_t i = 0; i < seq_len; ++i) {
      if (position == length) position = 0, length = 3 + next(15);
      batch.tokens.push_back(next(kVocab));
      batch.labels.push_back(next(10 + static_cast<uint64_t>(row)) == 0 ? -100 : next(kVocab / 4));
      batch.positions.push_back(position++);
    }
  }
  return batch;
}

using State = std::vector<std::pair<std::string, at::Tensor>>;

struct Course {
  std::vector<double> loss, grad_norm;
  std::vector<double> validation;  // sums of the cross-entropies of other rows, forward alone, after the last step
  State state;                     // on rank 0, after the last step
  int64_t parameter_bytes = 0;     // of this rank's masters
};

absl::StatusOr<config::Experiment> ExperimentOf(const Layout& layout) {
  return ReadExperiment(kExperiment, {.source_name = "parity", .overrides = layout.overrides});
}

// `counts_its_rows_only`: a negative control, in which a rank divides by the number of valid tokens in its own half of
// the batch.
absl::StatusOr<Course> Train(const Layout& layout, const ParallelGroups* groups, bool counts_its_rows_only = false) {
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ExperimentOf(layout));
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(experiment, {.groups = groups}));
  Course course;
  for (int64_t step = 0; step < kSteps; ++step) {
    Batch batch = MakeBatch(step);
    if (counts_its_rows_only) {
      const auto half = batch.labels.begin() + kRows / 2 * kSeqLen;
      if (groups->rank() == 0) std::fill(half, batch.labels.end(), -100);
      if (groups->rank() == 1) std::fill(batch.labels.begin(), half, -100);
    }
    // Only where there are others: it must not make a difference.
    if (groups != nullptr && step == kSteps / 2) {
      TITAN_RETURN_IF_ERROR(trainer->LossSum(MakeBatch(kSteps, 2 * kSeqLen)).status());
    }
    TITAN_ASSIGN_OR_RETURN(const StepResult result, trainer->Step(batch));
    course.loss.push_back(result.loss);
    course.grad_norm.push_back(result.grad_norm);
  }
  for (const int64_t seq_len : {kSeqLen, 2 * kSeqLen}) {
    TITAN_ASSIGN_OR_RETURN(course.validation.emplace_back(), trainer->LossSum(MakeBatch(kSteps, seq_len)));
  }
  for (const at::Tensor& master : trainer->parameters().masters()) course.parameter_bytes += master.numel() * 4;
  for (auto& [name, tensor] : trainer->State()) course.state.emplace_back(name, tensor.clone());
  return course;
}

double RelativeError(const std::vector<double>& values, const std::vector<double>& expected) {
  double worst = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    worst = std::max(worst, std::abs(values[i] - expected[i]) / std::abs(expected[i]));
  }
  return worst;
}

nlohmann::json Compare(const Course& course, const Course& reference) {
  double parameter_error = 0;
  int64_t compared = 0, averages = 0;
  const std::map<std::string, at::Tensor> expected(reference.state.begin(), reference.state.end());
  for (const auto& [name, tensor] : course.state) {
    averages += name.rfind("optimizer.", 0) == 0 && expected.at(name).sizes() == tensor.sizes();
    if (name.rfind("model.", 0) != 0) continue;
    parameter_error = std::max(parameter_error, (tensor - expected.at(name)).abs().max().item<double>());
    ++compared;
  }
  return {{"loss_error", RelativeError(course.loss, reference.loss)},
          {"grad_norm_error", RelativeError(course.grad_norm, reference.grad_norm)},
          {"validation_error", RelativeError(course.validation, reference.validation)},
          {"parameter_error", parameter_error},
          {"parameters_compared", compared},
          {"averages", averages},
          {"first_loss", course.loss.front()},
          {"last_loss", course.loss.back()},
          {"parameter_bytes", course.parameter_bytes}};
}

bool SameBits(const Course& a, const Course& b) {
  if (a.loss != b.loss || a.grad_norm != b.grad_norm || a.state.size() != b.state.size()) return false;
  for (size_t i = 0; i < a.state.size(); ++i) {
    if (!at::equal(a.state[i].second, b.state[i].second)) return false;
  }
  return true;
}

// A group in which all-reduce does nothing.
class ForgetfulCommunicator : public Communicator {
 public:
  explicit ForgetfulCommunicator(std::unique_ptr<Communicator> group)
      : Communicator(group->name(), group->ranks(), group->rank()), group_(std::move(group)) {}

 protected:
  Work DoAllGather(const at::Tensor& output, const at::Tensor& input) override {
    return group_->AllGather(output, input);
  }
  Work DoReduceScatter(const at::Tensor& output, const at::Tensor& input, ReduceOp op) override {
    return group_->ReduceScatter(output, input, op);
  }
  Work DoAllReduce(const at::Tensor&, ReduceOp) override { return Work(); }
  Work DoAllToAll(const at::Tensor& output, const std::vector<int64_t>& output_rows, const at::Tensor& input,
                  const std::vector<int64_t>& input_rows) override {
    return group_->AllToAll(output, output_rows, input, input_rows);
  }
  Work DoBroadcast(const at::Tensor& tensor, int64_t root) override { return group_->Broadcast(tensor, root); }
  Work DoExchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives) override {
    return group_->Exchange(sends, receives);
  }
  void DoBarrier(std::optional<std::chrono::seconds> limit) override { group_->Barrier(limit); }

 private:
  std::unique_ptr<Communicator> group_;
};

// Makes the groups of `transport`, but those whose name contains `part` forgetful.
class ForgetfulTransport : public Transport {
 public:
  ForgetfulTransport(Transport& transport, std::string part) : transport_(transport), part_(std::move(part)) {}
  int64_t rank() const override { return transport_.rank(); }
  int64_t world_size() const override { return transport_.world_size(); }
  absl::StatusOr<std::unique_ptr<Communicator>> NewGroup(const std::string& name,
                                                         const std::vector<int64_t>& ranks) override {
    TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, transport_.NewGroup(name, ranks));
    if (name.find(part_) == std::string::npos) return group;
    return std::make_unique<ForgetfulCommunicator>(std::move(group));
  }
  absl::Status status() const override { return transport_.status(); }
  void Abort(const std::string& reason) override { transport_.Abort(reason); }

 private:
  Transport& transport_;
  const std::string part_;
};

const Layout& LayoutNamed(const std::string& name) {
  return *std::find_if(Layouts().begin(), Layouts().end(), [&](const Layout& layout) { return layout.name == name; });
}

class ParityRank {
 public:
  ParityRank(Transport& transport, std::string result) : transport_(transport), result_(std::move(result)) {}

  absl::Status Run(const std::vector<Layout>& layouts, bool with_controls) {
    if (transport_.rank() == 0) {
      TITAN_ASSIGN_OR_RETURN(untied_, Train({.name = "one process", .overrides = {}}, nullptr));
      TITAN_ASSIGN_OR_RETURN(tied_,
                             Train({.name = "one process", .overrides = {"model.enable_weight_tying=true"}}, nullptr));
      TITAN_ASSIGN_OR_RETURN(muon_, Train({.name = "one process", .overrides = MuonOverrides()}, nullptr));
    }
    for (const Layout& layout : layouts) TITAN_RETURN_IF_ERROR(RunLayout(layout));
    if (with_controls) {
      TITAN_RETURN_IF_ERROR(RunTwice(LayoutNamed("pp2_fsdp2_tp2")));
      TITAN_RETURN_IF_ERROR(RunNegativeControls());
    }
    return transport_.rank() == 0 ? WriteFileAtomically(result_, results_.dump(1)) : absl::OkStatus();
  }

 private:
  // Trains a layout with groups of its own, and compares on rank 0; `label` names the result and the groups.
  absl::StatusOr<Course> RunOne(const Layout& layout, Transport& transport, const std::string& label,
                                bool counts_its_rows_only = false) {
    TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ExperimentOf(layout));
    TITAN_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(experiment.parallelism(), layout.world_size));
    const auto start = std::chrono::steady_clock::now();
    TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<ParallelGroups> groups,
                           ParallelGroups::Create(transport, mesh, label));
    TITAN_ASSIGN_OR_RETURN(Course course, Train(layout, groups.get(), counts_its_rows_only));
    if (transport_.rank() != 0) return course;
    nlohmann::json& result = results_[label] = Compare(course, layout.muon ? muon_ : layout.tied ? tied_ : untied_);
    result["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::cerr << label << " " << result << std::endl;
    return course;
  }

  absl::Status RunLayout(const Layout& layout) {
    if (transport_.rank() >= layout.world_size) return absl::OkStatus();
    return RunOne(layout, transport_, layout.name).status();
  }

  absl::Status RunTwice(const Layout& layout) {
    if (transport_.rank() >= layout.world_size) return absl::OkStatus();
    TITAN_ASSIGN_OR_RETURN(const Course first, RunOne(layout, transport_, "first"));
    TITAN_ASSIGN_OR_RETURN(const Course second, RunOne(layout, transport_, "second"));
    results_["second"]["same_bits"] = SameBits(first, second);
    return absl::OkStatus();
  }

  absl::Status RunNegativeControls() {
    if (transport_.rank() >= 2) return absl::OkStatus();
    ForgetfulTransport forgets_replicas(transport_, "replicate");
    TITAN_RETURN_IF_ERROR(RunOne(LayoutNamed("ddp2"), forgets_replicas, "skipped_reduction").status());
    ForgetfulTransport forgets_tensor_parallelism(transport_, ".tp.");
    TITAN_RETURN_IF_ERROR(RunOne(LayoutNamed("tp2"), forgets_tensor_parallelism, "skipped_norm_reduction").status());
    return RunOne(LayoutNamed("ddp2"), transport_, "wrong_divisor", /*counts_its_rows_only=*/true).status();
  }

  Transport& transport_;
  const std::string result_;
  Course untied_, tied_, muon_;
  nlohmann::json results_;
};

}  // namespace

absl::Status RunParityRank(Transport& transport, const std::vector<Layout>& layouts, bool with_controls,
                           const std::string& result) {
  at::set_num_threads(1);  // the ranks share the cores
  KeepFreedMemory();
  return CatchTorchErrors("parity", [&] { return ParityRank(transport, result).Run(layouts, with_controls); });
}

}  // namespace titan
