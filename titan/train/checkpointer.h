// When a run saves, and how the step is held up as little as possible: the state is copied (staged) at the end of a
// step, and a thread of each rank writes the copy while training goes on.
//
//   Checkpointer checkpointer(options, *trainer, *loader);
//   while (...) {
//     trainer->Step(batch, stops, [&] { checkpointer.BeforeUpdate(); });
//     if (checkpointer.IsDue(stops)) TITAN_RETURN_IF_ERROR(checkpointer.Save(tokens_seen));
//   }
//   TITAN_RETURN_IF_ERROR(checkpointer.Finish(/*is_end=*/true, tokens_seen));
//
// checkpoint.async_mode says what a save costs the step: `disabled` all of it; `async` the copy to the host;
// `async_with_pinned_mem` on a GPU nothing but the start of that copy, which runs beside the next forward and backward
// and is over before the optimizer changes anything. A save that is due while the one before is still being written
// waits for it. A save that fails is reported and training goes on, with the checkpoints that there are; only the
// failure of a run's last save is an error.

#ifndef TITAN_TRAIN_CHECKPOINTER_H_
#define TITAN_TRAIN_CHECKPOINTER_H_

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/checkpoint/save.h"
#include "titan/checkpoint/writer.h"
#include "titan/data/loader.h"
#include "titan/parallel/copy_stream.h"
#include "titan/train/progress.h"
#include "titan/train/trainer.h"
#include "titan/train/world.h"

namespace titan {

struct CheckpointerOptions {
  const config::Experiment* experiment = nullptr;  // outlives the checkpointer, as do all pointers here
  std::string folder;                              // of the checkpoints
  RunIdentity run;                                 // who saves
  const World* world = nullptr;                    // null for a run of one process
  at::Device device = at::kCPU;
  // What the trainer continues from, if it does: its step is not saved again.
  std::optional<RestoredProgress> restored;
  // Tells the user about a save.
  std::function<void(std::string_view)> note;
  // Called before a save is written, by the thread that writes it: a test holds that up here.
  std::function<void()> before_write = nullptr;
};

class Checkpointer {
 public:
  // With async_with_pinned_mem on a GPU it takes the pinned memory for the copies, which takes the system seconds, here
  // and not in the step of the first save; nor beside the first steps, since it may wait for what the GPU does, and
  // that for other ranks.
  Checkpointer(CheckpointerOptions options, const Trainer& trainer, const Loader& loader);
  // Waits for what this rank still writes, but no longer for other ranks.
  ~Checkpointer();

  // Whether the trainer's step is to be saved. Looks also after the save that is being written, and reports its end.
  bool IsDue();
  // Every rank calls it after the same step. Fails only if a peer is lost.
  absl::Status Save(int64_t tokens_seen);
  // To be called when a step's gradients are there and before the optimizer changes what is being copied.
  void BeforeUpdate();
  // Every rank, after the last step: waits for the save that is being written, and saves the trainer's step if that is
  // not on disk. `is_end`: training is done, so that checkpoint.last_save_model_only and last_save_in_hf apply.
  absl::Status Finish(bool is_end, int64_t tokens_seen);
  // Waits for the save that is being written, if there is one, and reports its end. Every rank, or rank 0 may wait
  // long.
  void WaitForWriter();

  // How long saves have held up training since the last call, how long those took that were found complete since, and
  // how many have failed so far; on rank 0.
  double TakeSeconds();
  double TakeWriteSeconds();
  int64_t failed_saves() const { return failed_saves_; }

 private:
  enum class How { kStaged, kAtOnce };

  bool is_first() const { return options_.world == nullptr || options_.world->is_first(); }
  absl::Status Save(How how, bool model_only, int64_t tokens_seen);
  absl::StatusOr<SaveTask> AgreeOnTask() const;
  std::vector<ShardPiece> Pieces(How how, bool model_only);
  bool is_pinned() const;
  void AllocateStaging();
  at::Tensor& StagingOf(const at::Tensor& shard);
  at::Tensor Stage(const at::Tensor& shard);
  absl::Status ExportLast();
  std::function<absl::Status()> JobFor(const SaveTask& task, absl::StatusOr<std::vector<ShardPiece>> pieces,
                                       std::string state);
  void Report(const absl::Status& result);

  const CheckpointerOptions options_;
  const config::Checkpoint& config_;
  const Trainer& trainer_;
  const Loader& loader_;
  const CopyStream copies_;
  std::map<const void*, at::Tensor> staged_;  // by live tensor; used again for each save
  bool is_copying_ = false;                   // copies_ may still read live tensors
  std::atomic<bool> cancelled_ = false;
  // The save that is being written, or was last.
  int64_t step_ = -1;
  bool model_only_ = false;
  double held_up_ = 0;        // seconds
  double write_seconds_ = 0;  // of the job, which writes these two
  absl::Status prune_status_;
  int64_t saved_step_;  // the newest step that is on disk; on rank 0
  bool saved_model_only_;
  double seconds_ = 0;  // since TakeSeconds
  double written_seconds_ = 0;
  int64_t failed_saves_ = 0;
  BackgroundWriter writer_;  // last: its thread uses the others
};

}  // namespace titan

#endif  // TITAN_TRAIN_CHECKPOINTER_H_
