// The tokenizer and corpora of a bundle, as the loader takes them.
//
//   TITAN_ASSIGN_OR_RETURN(const DataFiles files, ReadDataFiles("/data/debug.bundle"));
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Loader> loader, Loader::Create(experiment, files));

#ifndef TITAN_TOOLS_BUNDLE_DATA_FILES_H_
#define TITAN_TOOLS_BUNDLE_DATA_FILES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "titan/data/loader.h"

namespace titan {

// Data up to this size is read as a whole, and its sha256 compared, whenever a run starts: a second and a half from
// memory, a few from a disk. Of more data only the sizes are.
inline constexpr int64_t kMaxHashedBytes = int64_t{1} << 30;

// What data.json of the bundle lists; the paths in it are relative to the bundle. InvalidArgument if it is malformed,
// or names every file that is missing or not what is listed: of another size, or, while all of them have at most
// `max_hashed_bytes` together, of another sha256.
absl::StatusOr<DataFiles> ReadDataFiles(const std::string& bundle, int64_t max_hashed_bytes = kMaxHashedBytes);

}  // namespace titan

#endif  // TITAN_TOOLS_BUNDLE_DATA_FILES_H_
