#include "titan/train/checkpointer.h"

#include <ATen/ops/empty.h>

#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/base/quantities.h"
#include "titan/base/span.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/export.h"
#include "titan/checkpoint/store.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/train/torch_errors.h"

namespace titan {
namespace {

using Clock = std::chrono::steady_clock;

// A wait shorter than this is not worth telling.
constexpr double kToldWait = 0.1;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

at::ScalarType ExportType(const config::Checkpoint& config) {
  return config.export_dtype() == config::Training::DTYPE_BFLOAT16 ? at::kBFloat16 : at::kFloat;
}

}  // namespace

Checkpointer::Checkpointer(CheckpointerOptions options, const Trainer& trainer, const Loader& loader)
    : options_(std::move(options)),
      config_(options_.experiment->checkpoint()),
      trainer_(trainer),
      loader_(loader),
      copies_(options_.device),
      saved_step_(options_.restored.has_value() ? trainer.step() : -1),
      saved_model_only_(options_.restored.has_value() && options_.restored->model_only) {
  if (is_pinned() && config_.enable() && !config_.load_only()) AllocateStaging();
}

Checkpointer::~Checkpointer() { cancelled_ = true; }

bool Checkpointer::IsDue() {
  if (writer_.has_job() && writer_.IsDone()) Report(writer_.Wait());
  const int64_t step = trainer_.step();
  if (!config_.enable() || config_.load_only() || step >= options_.experiment->training().steps()) return false;
  return step % config_.interval() == 0 || (step == 1 && config_.enable_first_step_checkpoint());
}

absl::Status Checkpointer::Save(int64_t tokens_seen) {
  const bool is_async = config_.async_mode() != config::Checkpoint::ASYNC_MODE_DISABLED;
  return Save(is_async ? How::kStaged : How::kAtOnce, /*model_only=*/false, tokens_seen);
}

absl::Status Checkpointer::Save(How how, bool model_only, int64_t tokens_seen) {
  const Span span("save", trainer_.step());
  const auto start = Clock::now();
  WaitForWriter();
  TITAN_ASSIGN_OR_RETURN(const SaveTask task, AgreeOnTask());
  step_ = task.step;
  model_only_ = model_only;
  absl::StatusOr<std::vector<ShardPiece>> pieces = std::vector<ShardPiece>();
  const absl::Status staged = CatchTorchErrors("staging a checkpoint", [&] {
    *pieces = Pieces(how, model_only);
    return absl::OkStatus();
  });
  if (!staged.ok()) pieces = staged;
  std::string state;
  if (is_first()) state = ProgressState(*options_.experiment, options_.run, trainer_, loader_, tokens_seen, model_only);
  std::function<absl::Status()> job = JobFor(task, std::move(pieces), std::move(state));
  absl::Status result;
  if (how == How::kStaged) {
    writer_.Start([job = std::move(job)] {
      NameThread("checkpoint writer");
      return job();
    });
  } else {
    result = job();
    if (options_.world != nullptr) TITAN_RETURN_IF_ERROR(options_.world->Meet(kCheckpointTimeLimit));
  }
  held_up_ = SecondsSince(start);
  seconds_ += held_up_;
  if (how == How::kAtOnce) Report(result);
  return absl::OkStatus();
}

// Nobody writes at an earlier save any more when this returns.
absl::StatusOr<SaveTask> Checkpointer::AgreeOnTask() const {
  SaveTask task{.dir = options_.folder, .step = trainer_.step(), .id = NewSaveId()};
  if (options_.world == nullptr) return task;
  TITAN_RETURN_IF_ERROR(options_.world->Meet(kCheckpointTimeLimit));
  TITAN_ASSIGN_OR_RETURN(task.id, options_.world->FromFirst(task.id));
  task.rank = options_.world->rank();
  task.world_size = options_.world->size();
  return task;
}

// Of this rank, what it is to write; of the live tensors or of copies that were started.
std::vector<ShardPiece> Checkpointer::Pieces(How how, bool model_only) {
  const Span span("stage checkpoint");
  std::vector<ShardPiece> pieces;
  std::map<const void*, at::Tensor> copies;  // of this save, by live tensor
  for (const Trainer::StatePiece& part : trainer_.LocalState()) {
    if (!part.is_written_here || (model_only && !absl::StartsWith(part.name, "model."))) continue;
    at::Tensor shard = part.shard;
    if (how == How::kStaged) {
      at::Tensor& copy = copies[shard.unsafeGetTensorImpl()];
      if (!copy.defined()) copy = Stage(shard);
      shard = copy;
    }
    const at::ScalarType dtype = model_only ? ExportType(config_) : shard.scalar_type();
    int64_t begin = part.begin;
    for (const Box& box : part.boxes) {
      const int64_t count = box.num_elements();
      pieces.push_back({part.name, part.shape, box, shard.narrow(0, begin, count).view(box.shape), dtype});
      begin += count;
    }
  }
  return pieces;
}

bool Checkpointer::is_pinned() const {
  return options_.device.is_cuda() && config_.async_mode() == config::Checkpoint::ASYNC_MODE_ASYNC_WITH_PINNED_MEM;
}

void Checkpointer::AllocateStaging() {
  const auto start = Clock::now();
  const absl::Status status = CatchTorchErrors("taking pinned memory for checkpoints", [this] {
    for (const Trainer::StatePiece& part : trainer_.LocalState()) {
      if (part.is_written_here) StagingOf(part.shard);
    }
    return absl::OkStatus();
  });
  if (!is_first()) return;
  int64_t bytes = 0;
  for (const auto& [live, copy] : staged_) bytes += copy.defined() ? static_cast<int64_t>(copy.nbytes()) : 0;
  options_.note(status.ok() ? absl::StrCat("pinned memory for checkpoints: ", FormatBytes(bytes), " in ",
                                           FormatDuration(SecondsSince(start)))
                            : absl::StrCat("WARNING: ", status.message(), ". The first save tries again"));
}

// Memory of the host for a copy of a live tensor.
at::Tensor& Checkpointer::StagingOf(const at::Tensor& shard) {
  at::Tensor& copy = staged_[shard.unsafeGetTensorImpl()];
  if (!copy.defined()) {
    copy = is_pinned() && shard.is_cuda()
               ? copies_.NewHostTensor(shard.numel(), shard.scalar_type())
               : at::empty({shard.numel()}, at::TensorOptions(at::kCPU).dtype(shard.scalar_type()));
  }
  return copy;
}

// Starts a copy of a live tensor.
at::Tensor Checkpointer::Stage(const at::Tensor& shard) {
  at::Tensor& copy = StagingOf(shard);
  if (is_pinned() && shard.is_cuda()) {
    copies_.Run([&] { copy.copy_(shard, /*non_blocking=*/true); });
    is_copying_ = true;
  } else {
    copy.copy_(shard);
  }
  return copy;
}

void Checkpointer::BeforeUpdate() {
  if (std::exchange(is_copying_, false)) copies_.Join();
}

// What is left to do once the copies are started: on any thread.
std::function<absl::Status()> Checkpointer::JobFor(const SaveTask& task, absl::StatusOr<std::vector<ShardPiece>> pieces,
                                                   std::string state) {
  return [this, task, pieces = std::move(pieces), state = std::move(state)]() -> absl::Status {
    const Span span("write checkpoint", task.step);
    const auto start = Clock::now();
    const absl::Status status = CatchTorchErrors("writing a checkpoint", [&]() -> absl::Status {
      if (options_.before_write) options_.before_write();
      if (task.rank == 0) TITAN_RETURN_IF_ERROR(PrepareSave(task));
      if (!pieces.ok()) {
        AbandonShard(task, pieces.status());
        return pieces.status();
      }
      copies_.Finish();
      TITAN_RETURN_IF_ERROR(WriteShard(task, *pieces));
      if (task.rank != 0) return absl::OkStatus();
      TITAN_RETURN_IF_ERROR(CommitShards(task, state, CanonicalBytes(*options_.experiment),
                                         {.time_limit = kCheckpointTimeLimit, .cancelled = &cancelled_})
                                .status());
      prune_status_ = PruneCheckpoints(options_.folder, config_.keep_latest_k(), task.step);
      return absl::OkStatus();
    });
    write_seconds_ = SecondsSince(start);
    return status;
  };
}

void Checkpointer::WaitForWriter() {
  if (!writer_.has_job()) return;
  const Span span("wait for checkpoint");
  const auto start = Clock::now();
  const int64_t step = step_;
  const absl::Status result = writer_.Wait();
  const double waited = SecondsSince(start);
  if (is_first() && waited >= kToldWait) {
    options_.note(
        absl::StrCat("waited ", FormatDuration(waited), " for the checkpoint of step ", step, " to be written"));
  }
  Report(result);
}

void Checkpointer::Report(const absl::Status& result) {
  if (!is_first()) {
    if (!result.ok()) options_.note(absl::StrCat("checkpoint of step ", step_, ": ", result.message()));
    return;
  }
  if (result.ok()) {
    saved_step_ = step_;
    saved_model_only_ = model_only_;
    written_seconds_ += write_seconds_;
    options_.note(absl::StrCat("checkpoint ", options_.folder, "/step-", step_, " in ", FormatDuration(write_seconds_),
                               ", training held up for ", FormatDuration(held_up_)));
    if (!prune_status_.ok()) {
      options_.note(absl::StrCat("WARNING: old checkpoints could not be removed: ", prune_status_.message()));
    }
    return;
  }
  ++failed_saves_;
  options_.note(absl::StrCat(
      "WARNING: checkpoint failed (", failed_saves_, " so far): ", result.message(),
      saved_step_ > 0 ? absl::StrCat(". The newest one is of step ", saved_step_) : ". There is none of this run yet"));
}

absl::Status Checkpointer::Finish(bool is_end, int64_t tokens_seen) {
  if (!config_.enable() || config_.load_only()) return absl::OkStatus();
  WaitForWriter();
  const bool model_only = is_end && config_.last_save_model_only();
  bool is_saved = trainer_.step() == 0 || (saved_step_ == trainer_.step() && (saved_model_only_ || !model_only));
  if (options_.world != nullptr) {
    TITAN_RETURN_IF_ERROR(options_.world->Meet(kCheckpointTimeLimit));
    TITAN_ASSIGN_OR_RETURN(const std::string answer, options_.world->FromFirst(is_saved ? "yes" : "no"));
    is_saved = answer == "yes";
  }
  if (!is_saved) {
    const int64_t failed_before = failed_saves_;
    TITAN_RETURN_IF_ERROR(Save(How::kAtOnce, model_only, tokens_seen));
    if (failed_saves_ != failed_before) {
      return absl::UnavailableError(absl::StrCat("the last checkpoint, of step ", trainer_.step(),
                                                 ", could not be written; the reason is above"));
    }
  }
  return is_end && config_.last_save_in_hf() && trainer_.step() > 0 ? ExportLast() : absl::OkStatus();
}

// Out of the checkpoint that all ranks have just written: no rank needs memory for more than a tensor. A run that was
// killed meanwhile does it when it is started again.
absl::Status Checkpointer::ExportLast() {
  if (is_first()) {
    TITAN_RETURN_IF_ERROR(CatchTorchErrors("writing the Hugging Face folder", [this]() -> absl::Status {
      const auto start = Clock::now();
      const std::string step = absl::StrCat(options_.folder, "/step-", trainer_.step()), dir = step + "/hf";
      if (std::filesystem::exists(dir)) return absl::OkStatus();
      TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(step));
      TITAN_RETURN_IF_ERROR(ExportHf(checkpoint, dir, ExportType(config_)));
      options_.note(absl::StrCat("Hugging Face folder ", dir, " in ", FormatDuration(SecondsSince(start))));
      return absl::OkStatus();
    }));
  }
  return options_.world == nullptr ? absl::OkStatus() : options_.world->Meet(kCheckpointTimeLimit);
}

double Checkpointer::TakeSeconds() { return std::exchange(seconds_, 0); }

double Checkpointer::TakeWriteSeconds() { return std::exchange(written_seconds_, 0); }

}  // namespace titan
