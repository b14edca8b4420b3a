// Whole files, and paths as a user means them.

#ifndef TITAN_BASE_FILE_H_
#define TITAN_BASE_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

// The content of a file. NotFound, or another error with the path and the system's reason.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Replaces a file as a whole: readers see the old or the new content, also after a crash (temporary file, fsync,
// rename, fsync of the directory). A full disk is ResourceExhausted; the old file is then untouched.
absl::Status WriteFileAtomically(const std::string& path, std::string_view content);

// Creates a directory and its parents; an existing one is fine.
absl::Status MakeDirectories(const std::string& path);

// fsync of a directory: the names in it are durable when it returns.
absl::Status SyncDirectory(const std::string& path);

// A path that a user typed, absolute. `bazel run` starts programs elsewhere and tells where the user was in
// BUILD_WORKING_DIRECTORY; relative paths are meant from there.
std::string UserPath(const std::string& path);

}  // namespace titan

#endif  // TITAN_BASE_FILE_H_
