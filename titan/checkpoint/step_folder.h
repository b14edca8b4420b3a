// The folders of checkpoints: their names, and how one comes and goes as a whole. No LibTorch here.

#ifndef TITAN_CHECKPOINT_STEP_FOLDER_H_
#define TITAN_CHECKPOINT_STEP_FOLDER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

inline constexpr char kIndexFile[] = "index.json";
inline constexpr char kStateFile[] = "state.json";
inline constexpr char kExperimentFile[] = "experiment.binpb";
inline constexpr char kCommittedFile[] = "COMMITTED";

std::string StepName(int64_t step);
// The N of "step-N"; nullopt for other names, "step-007" among them.
std::optional<int64_t> StepOf(std::string_view name);
// "step-N.ID.tmp": where a save of step N is written.
std::string TemporaryName(int64_t step, std::string_view save_id);

bool Exists(const std::string& path);

// Names of the folders in `dir`; none if it does not exist.
absl::StatusOr<std::vector<std::string>> FoldersIn(const std::string& dir);

absl::Status RemoveFolder(const std::string& path);
// Removes what interrupted saves and removals have left in `dir`, but not the folder called `kept`.
absl::Status RemoveLeftovers(const std::string& dir, std::string_view kept = "");
// Takes the commitment away first, so that a half-removed checkpoint is none.
absl::Status RemoveCheckpoint(const std::string& path);
// Gives the complete folder `temporary` its name `path` in `dir`; a folder of that name takes its place and is then
// removed.
absl::Status Publish(const std::string& dir, const std::string& temporary, const std::string& path);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_STEP_FOLDER_H_
