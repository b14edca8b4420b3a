#include "titan/train/run_directory.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/store.h"
#include "titan/config/experiment.pb.h"
#include "titan/metrics/run_record.h"

namespace titan {
namespace {

namespace fs = std::filesystem;

// What a run leaves in its directory, checkpoints aside. logs/ is not among it: a launcher opens the logs before the
// run begins, and appends to those of earlier sessions.
const std::vector<std::string>& OutputNames() {
  static const auto* const names = new std::vector<std::string>{"metrics.jsonl", "report.html", "tb", "run.json"};
  return *names;
}

// The checkpoint that config.load_step asks for: the newest, or one step's. NotFound if there is none.
absl::StatusOr<StoredStep> FindCheckpoint(const std::string& folder, const config::Checkpoint& config) {
  if (config.load_step() < 0) return FindLatest(folder);
  TITAN_ASSIGN_OR_RETURN(const std::vector<StoredStep> steps, ListCheckpoints(folder));
  for (const StoredStep& stored : steps) {
    if (stored.step == config.load_step()) return stored;
  }
  return absl::NotFoundError(
      absl::StrCat(folder, " has no complete checkpoint of step ", config.load_step(), " (checkpoint.load_step)"));
}

bool IsSameRun(const std::string& out, const std::string& run_id) {
  const absl::StatusOr<RunRecord> record = ReadRunRecord(out + "/run.json");
  return record.ok() && record->session.digest == run_id;
}

}  // namespace

std::string DefaultOutDirectory(const std::string& name) {
  const std::string time = absl::FormatTime("%Y-%m-%dT%H-%M-%SZ", absl::Now(), absl::UTCTimeZone());
  return UserPath(absl::StrCat("outputs/", name, "/", time));
}

bool HoldsARun(const std::string& out, const std::string& checkpoint_folder) {
  if (fs::exists(checkpoint_folder)) return true;
  for (const std::string& name : OutputNames()) {
    if (fs::exists(out + "/" + name)) return true;
  }
  return false;
}

absl::StatusOr<RunDirectory> PlanRunDirectory(const std::string& out, Resume resume, const config::Checkpoint& config,
                                              const std::string& run_id) {
  RunDirectory directory{.path = out};
  const std::string folder = out + "/" + config.folder();
  if (config.enable() && resume != Resume::kNever && fs::exists(folder)) {
    absl::StatusOr<StoredStep> found = FindCheckpoint(folder, config);
    if (found.ok()) {
      directory.checkpoint = found->path;
      directory.checkpoint_step = found->step;
      return directory;
    }
    if (!absl::IsNotFound(found.status())) return found.status();
    if (config.load_step() >= 0) return absl::InvalidArgumentError(found.status().message());
  }
  if (resume == Resume::kMust) {
    return absl::InvalidArgumentError(
        config.enable()
            ? absl::StrCat("--resume must: no complete checkpoint in ", folder)
            : std::string("--resume must: checkpoint.enable is false, so there is nothing to continue from; "
                          "add --set checkpoint.enable=true"));
  }
  if (!HoldsARun(out, folder)) return directory;
  if (resume == Resume::kAuto && config.enable() && IsSameRun(out, run_id)) {
    directory.has_aborted_session = true;
    return directory;
  }
  const char* reason = resume == Resume::kNever ? "--resume never does not continue it"
                       : config.enable()        ? "It has no complete checkpoint to continue from"
                                                : "It cannot be continued, since checkpoint.enable is false";
  return absl::InvalidArgumentError(absl::StrCat(out, " already holds a run, which is not overwritten. ", reason,
                                                 ". Choose another --out, or delete it first"));
}

absl::Status MoveAside(const RunDirectory& directory, const config::Checkpoint& config) {
  std::string target;
  for (int i = 1; target.empty() || fs::exists(target); ++i) target = absl::StrCat(directory.path, "/aborted-", i);
  TITAN_RETURN_IF_ERROR(MakeDirectories(target));
  // run.json last: who is killed here finds by it, the next time, that the rest is its own.
  std::vector<std::string> names = {config.folder()};
  names.insert(names.end(), OutputNames().begin(), OutputNames().end());
  for (const std::string& name : names) {
    const std::string source = directory.path + "/" + name;
    if (!fs::exists(source)) continue;
    std::error_code error;
    fs::create_directories(fs::path(target + "/" + name).parent_path(), error);
    fs::rename(source, target + "/" + name, error);
    if (error) return SystemError(error.value(), "cannot move aside", source);
  }
  return absl::OkStatus();
}

}  // namespace titan
