#include "titan/train/run.h"

#include <torch/headeronly/version.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/file.h"
#include "titan/base/quantities.h"
#include "titan/base/span.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/hf.h"
#include "titan/config/diff.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/resolved_json.h"
#include "titan/metrics/console.h"
#include "titan/metrics/jsonl.h"
#include "titan/metrics/prometheus.h"
#include "titan/metrics/report.h"
#include "titan/metrics/run_record.h"
#include "titan/metrics/span_log.h"
#include "titan/metrics/tensorboard.h"
#include "titan/plan/accelerators.h"
#include "titan/train/checkpointer.h"
#include "titan/train/device.h"
#include "titan/train/exit_code.h"
#include "titan/train/profiler.h"
#include "titan/train/progress.h"
#include "titan/train/run_inputs.h"
#include "titan/train/torch_errors.h"
#include "titan/train/trainer.h"
#include "titan/train/validator.h"
#include "titan/train/world.h"

namespace titan {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

volatile std::sig_atomic_t stop_signal = 0;

// The first signal asks the loop to stop; the next one finds the default action and kills.
void RequestStop(int signal) {
  stop_signal = signal;
  std::signal(signal, SIG_DFL);
}

class Run {
 public:
  // `world` is null for a run of one process.
  Run(RunInputs inputs, const World* world, at::Device device, std::vector<std::string> overrides,
      std::vector<std::string> command)
      : inputs_(std::move(inputs)),
        experiment_(*inputs_.experiment),
        world_(world),
        device_(device),
        console_(std::cout, ConsoleOptions::ForStdout(experiment_.metrics(), experiment_.training().steps())),
        record_(StartRunRecord(inputs_.name, inputs_.run_id, std::move(command))),
        profiler_(experiment_.profiling(), inputs_.directory.path, world_ == nullptr ? 0 : world_->rank(), device_) {
    record_.session.overrides = std::move(overrides);
  }

  absl::Status Execute();

 private:
  absl::Status PrepareDirectory();
  absl::Status CreateTrainer();
  absl::Status Restore();
  void CreateCheckpointer();
  absl::Status OpenSinks();
  absl::Status Loop();
  absl::Status LogStep(const StepResult& result, const Traffic& traffic, double data_seconds);
  absl::Status Validate();
  absl::Status OpenSpans();
  absl::Status FlushSinks();
  absl::Status WithoutFullDisk(const absl::Status& status);
  absl::Status Finish(const absl::Status& ending);
  // Whether this process writes the run directory and talks to the user.
  bool is_first() const { return world_ == nullptr || world_->is_first(); }
  std::string Path(const std::string& name) const { return inputs_.directory.path + "/" + name; }

  RunInputs inputs_;
  const config::Experiment& experiment_;
  const World* world_;
  at::Device device_;
  Console console_;
  RunRecord record_;
  std::ofstream log_file_;
  std::vector<std::unique_ptr<MetricsSink>> sinks_;
  std::unique_ptr<SpanLog> spans_;  // null unless metrics.enable_spans; outlives the threads of the ones below
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<Validator> validator_;  // null unless validation.enable
  int64_t validated_step_ = 0;
  StepProfiler profiler_;
  int64_t tokens_seen_ = 0;
  bool disk_was_full_ = false;
  std::optional<RestoredProgress> restored_;
  std::unique_ptr<Checkpointer> checkpointer_;  // uses the ones above
  Clock::time_point step_end_ = Clock::now();
};

absl::Status Run::Execute() {
  if (is_first()) TITAN_RETURN_IF_ERROR(PrepareDirectory());
  absl::Status status = [&]() -> absl::Status {
    TITAN_RETURN_IF_ERROR(OpenSpans());
    TITAN_RETURN_IF_ERROR(CreateTrainer());
    // Who reads a checkpoint is slower here than there.
    if (world_ != nullptr) TITAN_RETURN_IF_ERROR(world_->Meet(kCheckpointTimeLimit));
    if (is_first()) TITAN_RETURN_IF_ERROR(OpenSinks());
    CreateCheckpointer();
    return Loop();
  }();
  // All ranks come here together; otherwise some may be gone, and what they have not written will not come.
  if (ExitCodeOf(status) == ExitCode::kNonFinite) checkpointer_->WaitForWriter();
  const absl::Status finished = is_first() ? Finish(status) : absl::OkStatus();
  return status.ok() ? finished : status;
}

absl::Status Run::PrepareDirectory() {
  console_.Header(inputs_.name, DescribeRun(inputs_));
  if (inputs_.directory.has_aborted_session) {
    TITAN_RETURN_IF_ERROR(MoveAside(inputs_.directory, experiment_.checkpoint()));
    console_.Note(
        "an earlier session ended before its first checkpoint; its output is kept in aborted-N, and the run begins "
        "again");
  }
  TITAN_RETURN_IF_ERROR(MakeDirectories(Path("logs")));
  TITAN_RETURN_IF_ERROR(ContinueRunRecord(Path("run.json"), record_));
  record_.versions["torch"] = TORCH_VERSION;
  for (const auto& [label, value] : RunFacts(inputs_)) record_.facts[label] = value;
  record_.experiment_json = ResolvedJson(experiment_);
  if (!inputs_.directory.checkpoint.empty()) record_.session.resumed_from_step = inputs_.directory.checkpoint_step;
  return WriteRunRecord(Path("run.json"), record_);
}

absl::Status Run::OpenSpans() {
  if (!experiment_.metrics().enable_spans()) return absl::OkStatus();
  NameThread("training");
  TITAN_RETURN_IF_ERROR(MakeDirectories(Path("spans")));
  const int64_t rank = world_ == nullptr ? 0 : world_->rank();
  TITAN_ASSIGN_OR_RETURN(spans_, SpanLog::Open(Path(absl::StrCat("spans/rank-", rank, ".json")), rank));
  return absl::OkStatus();
}

absl::Status Run::CreateTrainer() {
  const Span span("create trainer");
  // Nobody wants to hear it after the last step.
  if (experiment_.checkpoint().last_save_in_hf()) TITAN_RETURN_IF_ERROR(CheckHfExport(experiment_.model()));
  // Every rank reads the whole global batch and takes its rows: the loader does not know of ranks.
  config::Experiment of_all_ranks = experiment_;
  of_all_ranks.mutable_training()->set_global_batch_size(inputs_.rows_per_step);
  TITAN_ASSIGN_OR_RETURN(loader_, Loader::Create(of_all_ranks, inputs_.files));
  TrainerOptions options{.device = device_,
                         .groups = world_ == nullptr ? nullptr : &world_->groups(),
                         .pipeline_schedule_csv = inputs_.pipeline_schedule_csv};
  // A seed checkpoint only says where the parameters start.
  const bool has_seed = !inputs_.directory.checkpoint.empty() && inputs_.directory.checkpoint_step == 0;
  const bool resumes = !inputs_.directory.checkpoint.empty() && !has_seed;
  const std::string initial_path =
      has_seed ? inputs_.directory.checkpoint : experiment_.checkpoint().initial_load_path();
  if (!resumes && !initial_path.empty()) {
    TITAN_ASSIGN_OR_RETURN(options.initial_value, InitialValuesFrom(initial_path, experiment_));
    if (is_first()) console_.Note(absl::StrCat("parameters start from ", initial_path));
  }
  TITAN_ASSIGN_OR_RETURN(trainer_, Trainer::Create(experiment_, options));
  if (experiment_.validation().enable()) {
    TITAN_ASSIGN_OR_RETURN(validator_, Validator::Create(experiment_, inputs_.files, trainer_->mesh()));
  }
  return resumes ? Restore() : absl::OkStatus();
}

absl::Status Run::Restore() {
  const std::string& path = inputs_.directory.checkpoint;
  TITAN_ASSIGN_OR_RETURN(restored_, RestoreProgress(path, experiment_, inputs_.run_id, *trainer_, *loader_));
  tokens_seen_ = restored_->tokens_seen;
  validated_step_ = trainer_->step();
  if (!is_first()) return absl::OkStatus();
  config::Experiment earlier;
  if (earlier.ParseFromString(restored_->experiment)) {
    for (const FieldDifference& field : Diff(earlier, experiment_)) {
      console_.Note(absl::StrCat("changed since the checkpoint: ", field.path, ": ", field.left, " -> ", field.right));
    }
  }
  const std::string writer = restored_->run_id.empty() ? "an unknown run" : absl::StrCat("run id ", restored_->run_id);
  console_.Note(absl::StrCat("continues after step ", trainer_->step(), ", from ", path, ", saved by ", writer,
                             restored_->model_only ? "; it holds the model alone" : ""));
  if (!restored_->left_out.empty()) {
    console_.Note(absl::StrCat("begins anew, as checkpoint.exclude_from_loading says: ",
                               absl::StrJoin(restored_->left_out, ", ")));
  }
  record_.lineage.push_back({.step = trainer_->step(), .digest = restored_->run_id, .path = path});
  return WriteRunRecord(Path("run.json"), record_);
}

void Run::CreateCheckpointer() {
  CheckpointerOptions options{.experiment = &experiment_,
                              .folder = Path(experiment_.checkpoint().folder()),
                              .run = {inputs_.run_id, inputs_.bundle_digest},
                              .world = world_,
                              .device = device_,
                              .restored = restored_,
                              .note = [this](std::string_view text) { console_.Note(text); }};
  checkpointer_ = std::make_unique<Checkpointer>(std::move(options), *trainer_, *loader_);
}

absl::Status Run::OpenSinks() {
  const int64_t resume_step = trainer_->step();
  const int64_t total_steps = experiment_.training().steps();
  if (world_ == nullptr) {  // Of several processes, the launcher keeps the logs.
    log_file_.open(Path("logs/rank-0.log"), std::ios::app);
    auto log = std::make_unique<Console>(
        log_file_, ConsoleOptions{.log_freq = experiment_.metrics().log_freq(), .total_steps = total_steps});
    log->Header(inputs_.name, DescribeRun(inputs_));
    sinks_.push_back(std::move(log));
  }
  TITAN_ASSIGN_OR_RETURN(sinks_.emplace_back(), OpenJsonl(Path("metrics.jsonl"), resume_step));
  if (experiment_.metrics().enable_tensorboard()) {
    TITAN_ASSIGN_OR_RETURN(
        sinks_.emplace_back(),
        OpenTensorBoard(
            Path(experiment_.metrics().save_tb_folder()),
            {.log_freq = experiment_.metrics().log_freq(),
             .total_steps = total_steps,
             .resume_step = resume_step,
             .memory_capacity_bytes = FactsOf(experiment_.cluster().accelerator()).memory_bytes,
             .optimizer = experiment_.optimizer().name() == config::Optimizer::NAME_MUON ? "Muon" : "AdamW"}));
  }
  if (experiment_.metrics().prometheus_port() != -1) {
    TITAN_ASSIGN_OR_RETURN(std::unique_ptr<PrometheusSink> prometheus,
                           OpenPrometheus({.address = experiment_.metrics().prometheus_address(),
                                           .port = experiment_.metrics().prometheus_port(),
                                           .run = inputs_.name,
                                           .digest = inputs_.run_id}));
    console_.Note(absl::StrCat("metrics for Prometheus at ", prometheus->url()));
    sinks_.push_back(std::move(prometheus));
  }
  sinks_.push_back(OpenReport(inputs_.directory.path));
  return absl::OkStatus();
}

absl::Status Run::Loop() {
  std::signal(SIGTERM, RequestStop);
  std::signal(SIGINT, RequestStop);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond `ulimit -f` is an error of the write, as a full disk is
  step_end_ = Clock::now();
  while (trainer_->step() < experiment_.training().steps()) {
    if (spans_ != nullptr) TITAN_RETURN_IF_ERROR(WithoutFullDisk(spans_->Flush()));
    const Span step("step", trainer_->step() + 1);
    const auto data_start = Clock::now();
    Span waiting("wait for data");
    absl::StatusOr<Batch> batch = loader_->Next();
    waiting.End();
    const double data_seconds = SecondsSince(data_start);
    if (absl::IsOutOfRange(batch.status())) {
      if (is_first()) console_.Note("the data has ended and data.repeat is false");
      break;
    }
    if (absl::IsResourceExhausted(batch.status())) return WithExitCode(batch.status(), ExitCode::kOutOfMemory);
    TITAN_RETURN_IF_ERROR(batch.status());
    profiler_.BeginStep(trainer_->step() + 1);
    const Traffic before = trainer_->traffic();
    TITAN_ASSIGN_OR_RETURN(const StepResult result, trainer_->Step(*batch, /*wants_to_stop=*/stop_signal != 0,
                                                                   [this] { checkpointer_->BeforeUpdate(); }));
    TITAN_RETURN_IF_ERROR(profiler_.EndStep(result.step));
    if (is_first()) TITAN_RETURN_IF_ERROR(LogStep(result, Since(before, trainer_->traffic()), data_seconds));
    // Before the checkpoint: a run that continues from it does not validate this step again.
    if (validator_ != nullptr && validator_->IsDue(result.step)) TITAN_RETURN_IF_ERROR(Validate());
    if (result.someone_wants_to_stop) {
      TITAN_RETURN_IF_ERROR(FlushSinks());
      TITAN_RETURN_IF_ERROR(checkpointer_->Finish(/*is_end=*/false, tokens_seen_));
      const std::string cause =
          stop_signal == 0 ? "by a signal to another rank" : absl::StrCat("by signal ", static_cast<int>(stop_signal));
      return WithExitCode(absl::CancelledError(absl::StrCat("stopped ", cause, " after step ", trainer_->step())),
                          ExitCode::kPreempted);
    }
    if (checkpointer_->IsDue()) {
      TITAN_RETURN_IF_ERROR(FlushSinks());
      TITAN_RETURN_IF_ERROR(checkpointer_->Save(tokens_seen_));
    }
  }
  if (validator_ != nullptr && validated_step_ != trainer_->step()) TITAN_RETURN_IF_ERROR(Validate());
  TITAN_RETURN_IF_ERROR(FlushSinks());
  return checkpointer_->Finish(/*is_end=*/true, tokens_seen_);
}

absl::Status Run::Validate() {
  const Span span("validation", trainer_->step());
  const auto start = Clock::now();
  validated_step_ = trainer_->step();
  TITAN_ASSIGN_OR_RETURN(const ValidationLoss validation, validator_->Run(*trainer_));
  if (!is_first()) return absl::OkStatus();
  ValidationMetrics metrics;
  metrics.step = validated_step_;
  metrics.loss = validation.loss;
  metrics.tokens = validation.tokens;
  metrics.seconds = SecondsSince(start);
  const double devices = world_ == nullptr ? 1 : static_cast<double>(world_->size());
  metrics.tokens_per_second = static_cast<double>(metrics.tokens) / metrics.seconds / devices;
  metrics.memory_bytes = PeakMemoryBytes(device_);
  step_end_ = Clock::now();  // no step took this time
  TITAN_RETURN_IF_ERROR(console_.LogValidation(metrics));
  for (const std::unique_ptr<MetricsSink>& sink : sinks_) {
    TITAN_RETURN_IF_ERROR(WithoutFullDisk(sink->LogValidation(metrics)));
  }
  return absl::OkStatus();
}

absl::Status Run::LogStep(const StepResult& result, const Traffic& traffic, double data_seconds) {
  const auto now = Clock::now();
  StepMetrics metrics;
  metrics.step = result.step;
  metrics.loss = result.loss;
  metrics.grad_norm = result.grad_norm;
  metrics.lr = result.lr;
  metrics.tokens = inputs_.tokens_per_step();
  metrics.tokens_seen = tokens_seen_ += metrics.tokens;
  metrics.step_seconds = std::chrono::duration<double>(now - step_end_).count();
  metrics.data_seconds = data_seconds;
  const double devices = world_ == nullptr ? 1 : static_cast<double>(world_->size());
  metrics.tokens_per_second = static_cast<double>(metrics.tokens) / metrics.step_seconds / devices;  // of one device
  const double flops = metrics.tokens_per_second * inputs_.flops_per_token;
  const double peak_flops = FactsOf(experiment_.cluster().accelerator()).peak_flops;
  metrics.tflops = flops / 1e12;
  metrics.mfu = peak_flops > 0 ? flops / peak_flops : 0;
  metrics.memory_bytes = PeakMemoryBytes(device_);
  metrics.bytes_sent = BytesByAxis(traffic);
  metrics.checkpoint_seconds = checkpointer_->TakeSeconds();
  metrics.write_seconds = checkpointer_->TakeWriteSeconds();
  metrics.failed_saves = checkpointer_->failed_saves();
  step_end_ = now;
  record_.session.last_step = result.step;
  record_.session.final_loss = result.loss;
  TITAN_RETURN_IF_ERROR(console_.Log(metrics));
  for (const std::unique_ptr<MetricsSink>& sink : sinks_) {
    TITAN_RETURN_IF_ERROR(WithoutFullDisk(sink->Log(metrics)));
  }
  return absl::OkStatus();
}

// What the steps before a checkpoint have logged must not be lost when the checkpoint is not.
absl::Status Run::FlushSinks() {
  for (const std::unique_ptr<MetricsSink>& sink : sinks_) TITAN_RETURN_IF_ERROR(WithoutFullDisk(sink->Flush()));
  return absl::OkStatus();
}

// A full disk costs metrics, not the run: there may be room again when a save was given up.
absl::Status Run::WithoutFullDisk(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return status;
  if (!std::exchange(disk_was_full_, true))
    console_.Note(absl::StrCat("WARNING: metrics are lost: ", status.message()));
  return absl::OkStatus();
}

// Puts everything on disk and says how it went, whatever happened before.
absl::Status Run::Finish(const absl::Status& ending) {
  const ExitCode code = ExitCodeOf(ending);
  const std::string words =
      ending.ok() ? std::string(NameOf(code)) : absl::StrCat(NameOf(code), ": ", ending.message());
  FinishRunRecord(record_, static_cast<int>(code), words);
  absl::Status status = WriteRunRecord(Path("run.json"), record_);
  for (const std::unique_ptr<MetricsSink>& sink : sinks_) status.Update(sink->Flush());
  console_.Summary(ending.ok() ? "done" : NameOf(code),
                   {{"output", inputs_.directory.path}, {"report", Path("report.html")}});
  status.Update(console_.Flush());
  return status;
}

// Every process of the run in its own words, until they have met; then rank 0 decides where the run begins.
absl::Status RunRank(const TrainerFlags& flags, RunInputs inputs, const std::vector<std::string>& command) {
  TITAN_ASSIGN_OR_RETURN(const at::Device device, DeviceFor(inputs.experiment->cluster(), flags.identity.local_rank));
  if (flags.identity.world_size == 1) {
    TITAN_RETURN_IF_ERROR(VerifyData(flags));
    return Run(std::move(inputs), nullptr, device, flags.overrides, command).Execute();
  }
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<World> world, World::Join(*inputs.experiment, flags.identity, device));
  TITAN_RETURN_IF_ERROR(world->Agree(VerifyData(flags)));
  absl::Status status = ShareRunDirectory(*world, inputs.directory);
  // Its destructor waits for what is being written, and so comes after the others were told of an error.
  std::optional<Run> run;
  if (status.ok()) {
    run.emplace(std::move(inputs), world.get(), device, flags.overrides, command);
    status = run->Execute();
  }
  // Errors that all ranks come to together are not news to the others.
  const ExitCode code = ExitCodeOf(status);
  if (!status.ok() && code != ExitCode::kNonFinite && code != ExitCode::kPreempted) {
    world->Abort(std::string(status.message()));
  }
  return status.ok() ? world->Meet() : status;
}

}  // namespace

absl::Status RunTrainer(const TrainerFlags& flags, const std::vector<std::string>& command) {
  TITAN_ASSIGN_OR_RETURN(RunInputs inputs, ReadRunInputs(flags));
  if (flags.dry_run) {
    Console console(std::cout, ConsoleOptions::ForStdout(inputs.experiment->metrics(), 0));
    console.Header(inputs.name, DescribeRun(inputs));
    console.Note(inputs.directory.checkpoint.empty()
                     ? "would begin at step 1"
                     : absl::StrCat("would continue from ", inputs.directory.checkpoint));
    return console.Flush();
  }
  return CatchTorchErrors("the run", [&] { return RunRank(flags, std::move(inputs), command); });
}

}  // namespace titan
