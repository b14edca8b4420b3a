// The tokenizer and corpora of a bundle, as the loader takes them.
//
//   TITAN_ASSIGN_OR_RETURN(const DataFiles files, ReadDataFiles("/data/debug.bundle"));
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Loader> loader, Loader::Create(experiment, files));

#ifndef TITAN_TOOLS_BUNDLE_DATA_FILES_H_
#define TITAN_TOOLS_BUNDLE_DATA_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "titan/data/loader.h"

namespace titan {

// What data.json of the bundle lists; the paths in it are relative to the bundle. InvalidArgument if it is malformed,
// or a file is missing or has another size than listed.
absl::StatusOr<DataFiles> ReadDataFiles(const std::string& bundle);

}  // namespace titan

#endif  // TITAN_TOOLS_BUNDLE_DATA_FILES_H_
