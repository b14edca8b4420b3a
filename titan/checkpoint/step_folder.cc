#include "titan/checkpoint/step_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

// Ends the names of folders that are being written or thrown away.
constexpr std::string_view kTemporarySuffix = ".tmp";

// "step-N.ID.tmp", or as earlier versions called it "step-N.tmp".
bool IsTemporaryName(std::string_view name) {
  if (!absl::ConsumeSuffix(&name, kTemporarySuffix)) return false;
  return StepOf(name.substr(0, name.find('.'))).has_value();
}

}  // namespace

std::string StepName(int64_t step) { return absl::StrCat("step-", step); }

std::optional<int64_t> StepOf(std::string_view name) {
  int64_t step = 0;
  if (!absl::StartsWith(name, "step-") || !absl::SimpleAtoi(name.substr(5), &step)) return std::nullopt;
  return step >= 0 && StepName(step) == name ? std::make_optional(step) : std::nullopt;
}

std::string TemporaryName(int64_t step, std::string_view save_id) {
  return absl::StrCat(StepName(step), ".", save_id, kTemporarySuffix);
}

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

absl::Status RemoveFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? SystemError(error.value(), "cannot remove", path) : absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FoldersIn(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(dir, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::error_code unreadable;
    if (entry->is_directory(unreadable)) names.push_back(entry->path().filename().string());
  }
  if (error) return SystemError(error.value(), "cannot list", dir);
  return names;
}

absl::Status RemoveLeftovers(const std::string& dir, std::string_view kept) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> names, FoldersIn(dir));
  for (const std::string& name : names) {
    if (name == kept || !IsTemporaryName(name)) continue;
    TITAN_RETURN_IF_ERROR(RemoveFolder(absl::StrCat(dir, "/", name)));
  }
  return absl::OkStatus();
}

absl::Status RemoveCheckpoint(const std::string& path) {
  const std::string committed = absl::StrCat(path, "/", kCommittedFile);
  if (unlink(committed.c_str()) != 0 && errno != ENOENT) return SystemError(errno, "cannot remove", committed);
  TITAN_RETURN_IF_ERROR(SyncDirectory(path));
  return RemoveFolder(path);
}

absl::Status Publish(const std::string& dir, const std::string& temporary, const std::string& path) {
  if (Exists(path)) {
    if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
      // What was step N before is a leftover now; if it cannot be removed, the next save tries again.
      RemoveFolder(temporary).IgnoreError();
      return SyncDirectory(dir);
    }
    // Some network file systems cannot exchange. Then, for a moment, there is no step N; the others are there.
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) return SystemError(errno, "cannot replace", path);
    TITAN_RETURN_IF_ERROR(RemoveCheckpoint(path));
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) return SystemError(errno, "cannot create", path);
  return SyncDirectory(dir);
}

}  // namespace titan
