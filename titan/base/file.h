// Whole files, and paths as a user means them.
//
//   TITAN_RETURN_IF_ERROR(MakeDirectories(out));
//   TITAN_RETURN_IF_ERROR(WriteFileAtomically(out + "/run.json", text));

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
// Devices and pipes (/dev/null) are written to, not replaced.
absl::Status WriteFileAtomically(const std::string& path, std::string_view content);

// Creates a directory and its parents; an existing one is fine.
absl::Status MakeDirectories(const std::string& path);

// fsync of a directory: the names in it are durable when it returns.
absl::Status SyncDirectory(const std::string& path);

// A path that a user typed, absolute. `bazel run` starts programs elsewhere and tells where the user was in
// BUILD_WORKING_DIRECTORY; relative paths are meant from there.
std::string UserPath(const std::string& path);

// The error of a failed system call: `what` ("cannot write"), the path, the system's reason, and for a full disk what
// to do. Its code follows from `error_number`, a value of errno.
absl::Status SystemError(int error_number, std::string_view what, const std::string& path);

// Writes a file from front to back. What was written is on disk once Close says ok; a file that was not closed so is
// to be deleted. Errors as WriteFileAtomically.
//
//   TITAN_ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(path));
//   TITAN_RETURN_IF_ERROR(file.Append(bytes));
//   TITAN_RETURN_IF_ERROR(file.Close());
class FileWriter {
 public:
  // Creates the file, or empties an existing one.
  static absl::StatusOr<FileWriter> Create(const std::string& path);

  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&& other) = delete;
  ~FileWriter();

  absl::Status Append(std::string_view bytes);
  absl::Status Close();  // fsync, then close

 private:
  FileWriter(std::string path, int descriptor);

  std::string path_;
  int descriptor_;  // -1: closed
};

}  // namespace titan

#endif  // TITAN_BASE_FILE_H_
