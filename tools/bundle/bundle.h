// A bundle: the directory that a run is started from, and the MANIFEST that says what is in it.
//
//   absl::StatusOr<Manifest> manifest = ReadManifest("/data/debug.bundle");
//   manifest->digest;                                      // the run id
//   absl::Status status = VerifyRuntime(dir, *manifest);   // are these the libraries that the bundle was built with?
//
// A thin bundle is the same tree without lib/: its MANIFEST, and so its digest, are those of the full bundle, and the
// machine's own torch wheel stands in for what is left out. The format is in README.md.

#ifndef TITAN_TOOLS_BUNDLE_BUNDLE_H_
#define TITAN_TOOLS_BUNDLE_BUNDLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

struct ManifestEntry {
  std::string path;  // relative to the bundle
  int64_t bytes = 0;
  std::string sha256;  // 64 hexadecimal digits
};

struct Manifest {
  std::vector<ManifestEntry> entries;  // sorted by path
  std::string digest;                  // sha256 of the MANIFEST file: the run id
};

// The one text of a MANIFEST with these entries: a line "<sha256> <bytes> <path>" for each, sorted by path.
std::string FormatManifest(std::vector<ManifestEntry> entries);

// InvalidArgument with the line's number if it is not what FormatManifest writes.
absl::StatusOr<Manifest> ParseManifest(std::string_view text);

// The MANIFEST of the bundle in a directory. NotFound if there is none.
absl::StatusOr<Manifest> ReadManifest(const std::string& bundle);

// What the file `path` of a bundle holds. NotFound if the manifest does not list it, DataLoss if it is not what the
// manifest says.
absl::StatusOr<std::string> ReadBundleFile(const std::string& bundle, const Manifest& manifest, std::string_view path);

// Whether `path` is one of the libraries that a thin bundle leaves out.
bool IsRuntimeLibrary(std::string_view path);

// The size and digest of a file, as the entry `path`.
absl::StatusOr<ManifestEntry> HashFile(const std::string& path, const std::string& file);

// Checks, for a thin bundle, that the libraries of this process are byte for byte those of the manifest. Those that are
// not loaded yet are looked for along `search_path` (directories separated by ':', as in LD_LIBRARY_PATH). Reads all of
// them: 1 to 4 GB, on all cores. FailedPrecondition names every library that is missing or differs. A full bundle
// carries its own libraries and needs no check.
absl::Status VerifyRuntime(const std::string& bundle, const Manifest& manifest, std::string_view search_path);

// The same, with LD_LIBRARY_PATH.
absl::Status VerifyRuntime(const std::string& bundle, const Manifest& manifest);

}  // namespace titan

#endif  // TITAN_TOOLS_BUNDLE_BUNDLE_H_
