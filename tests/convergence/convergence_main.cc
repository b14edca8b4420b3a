// convergence --bundle DIR --golden FILE --steps N --tolerance T [--set path=value]... [--update]
//
// Trains for N steps from a bundle, and compares the loss of each step with the golden: relative differences up to T
// are rounding, anything larger is not. Then it breaks the training in three ways, and demands that the same comparison
// notices each. With --update it writes the golden instead. Exit code 0 passed, 1 failed, 2 bad usage.

#include <cstdint>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/convergence/curve.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/data/loader.h"
#include "titan/train/trainer.h"
#include "tools/bundle/data_files.h"

namespace titan {
namespace {

constexpr int64_t kIgnoredLabel = -100;

struct Arguments {
  std::string bundle;
  std::string golden;
  int64_t steps = 0;
  double tolerance = 0;
  std::vector<std::string> overrides;
  bool update = false;
};

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& arguments) {
  Arguments parsed;
  std::string tolerance;
  FlagParser flags;
  flags.Text("bundle", &parsed.bundle);
  flags.Text("golden", &parsed.golden);
  flags.Number("steps", "a number of steps", 2, &parsed.steps);
  flags.Text("tolerance", &tolerance);
  flags.List("set", &parsed.overrides);
  flags.Switch("update", &parsed.update);
  flags.Require({"bundle", "golden", "steps", "tolerance"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (!absl::SimpleAtod(tolerance, &parsed.tolerance) || parsed.tolerance <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("--tolerance ", tolerance, ": takes a number above 0"));
  }
  parsed.overrides.push_back(absl::StrCat("training.steps=", parsed.steps));
  return parsed;
}

// One way to train: as it should be, or spoilt.
struct Variant {
  std::string name;
  std::function<void(config::Experiment&)> spoil_experiment = [](config::Experiment&) {};
  std::function<void(Batch&)> spoil_batch = [](Batch&) {};
  int64_t skipped_update = 0;  // the step, from 1, whose gradients are thrown away; 0 for none
};

// Every token predicts the one after the next.
void ShiftLabels(Batch& batch) {
  for (int64_t row = 0; row < batch.rows; ++row) {
    int64_t* labels = batch.labels.data() + row * batch.seq_len;
    for (int64_t i = 0; i < batch.seq_len; ++i) {
      const int64_t next = i + 1 < batch.seq_len ? labels[i + 1] : kIgnoredLabel;
      if (next == kIgnoredLabel && labels[i] != kIgnoredLabel) --batch.valid_tokens;
      labels[i] = labels[i] == kIgnoredLabel ? kIgnoredLabel : next;
    }
  }
}

std::vector<Variant> Controls(int64_t steps) {
  Variant lr = {"learning rate doubled"};
  lr.spoil_experiment = [](config::Experiment& e) { e.mutable_optimizer()->set_lr(2 * e.optimizer().lr()); };
  Variant labels = {"labels shifted by one"};
  labels.spoil_batch = ShiftLabels;
  Variant skip = {"one optimizer step skipped"};
  skip.skipped_update = steps / 2;
  return {lr, labels, skip};
}

absl::StatusOr<std::vector<Batch>> ReadBatches(const config::Experiment& experiment, const Arguments& arguments) {
  TITAN_ASSIGN_OR_RETURN(const DataFiles files, ReadDataFiles(arguments.bundle));
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Loader> loader, Loader::Create(experiment, files));
  std::vector<Batch> batches;
  for (int64_t step = 0; step < arguments.steps; ++step) {
    TITAN_ASSIGN_OR_RETURN(Batch batch, loader->Next());
    batches.push_back(std::move(batch));
  }
  return batches;
}

absl::StatusOr<Curve> Train(config::Experiment experiment, const std::vector<Batch>& batches, const Variant& variant) {
  variant.spoil_experiment(experiment);
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(experiment, {.device = at::kCPU}));
  Curve curve;
  for (Batch batch : batches) {
    variant.spoil_batch(batch);
    TITAN_ASSIGN_OR_RETURN(const Gradients gradients, trainer->ComputeGradients(batch));
    curve.push_back(gradients.loss);
    if (static_cast<int64_t>(curve.size()) == variant.skipped_update) continue;
    TITAN_RETURN_IF_ERROR(trainer->Update(gradients));
  }
  return curve;
}

// Writes the golden; says what it was and is.
absl::Status Update(const std::string& path, const Curve& curve) {
  const absl::StatusOr<Curve> before = ReadCurve(path);
  printf("step       before        after\n");
  for (size_t i = 0; i < curve.size(); ++i) {
    const std::string old = before.ok() && i < before->size() ? absl::StrCat((*before)[i]) : "-";
    printf("%4zu %12s %12s\n", i + 1, old.c_str(), absl::StrCat(curve[i]).c_str());
  }
  TITAN_RETURN_IF_ERROR(WriteCurve(path, curve));
  printf("wrote %s\n", path.c_str());
  return absl::OkStatus();
}

void Report(const std::string& name, const Comparison& comparison, bool as_expected) {
  printf("%-28s differs by up to %.3g (step %lld): %s\n", name.c_str(), comparison.largest,
         static_cast<long long>(comparison.step), as_expected ? "as expected" : "FAILED");
}

// True if the baseline follows the golden and each control does not.
absl::StatusOr<bool> Test(const Arguments& arguments, const config::Experiment& experiment,
                          const std::vector<Batch>& batches, const Curve& baseline) {
  TITAN_ASSIGN_OR_RETURN(const Curve golden, ReadCurve(arguments.golden));
  TITAN_ASSIGN_OR_RETURN(const Comparison comparison, Compare(golden, baseline));
  printf("%lld steps, loss %.4f to %.4f, tolerance %g\n", static_cast<long long>(arguments.steps), baseline.front(),
         baseline.back(), arguments.tolerance);
  bool passed = comparison.largest <= arguments.tolerance;
  Report("baseline", comparison, passed);
  for (const Variant& control : Controls(arguments.steps)) {
    TITAN_ASSIGN_OR_RETURN(const Curve curve, Train(experiment, batches, control));
    TITAN_ASSIGN_OR_RETURN(const Comparison difference, Compare(golden, curve));
    const bool noticed = difference.largest > arguments.tolerance;
    Report(control.name, difference, noticed);
    passed &= noticed;
  }
  return passed;
}

absl::StatusOr<bool> Main(const std::vector<std::string>& command_line) {
  TITAN_ASSIGN_OR_RETURN(const Arguments arguments, Parse(command_line));
  const std::string source = absl::StrCat(arguments.bundle, "/experiment.json");
  TITAN_ASSIGN_OR_RETURN(const std::string json, ReadFile(source));
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment,
                         ReadExperiment(json, {.source_name = source, .overrides = arguments.overrides}));
  TITAN_ASSIGN_OR_RETURN(const std::vector<Batch> batches, ReadBatches(experiment, arguments));
  TITAN_ASSIGN_OR_RETURN(const Curve baseline, Train(experiment, batches, {"baseline"}));
  if (!arguments.update) return Test(arguments, experiment, batches, baseline);
  TITAN_RETURN_IF_ERROR(Update(arguments.golden, baseline));
  return true;
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  const absl::StatusOr<bool> passed = titan::Main({argv + 1, argv + argc});
  if (passed.ok()) return *passed ? 0 : 1;
  std::cerr << "convergence: " << passed.status().message() << "\n";
  return 2;
}
