// What the build actions of a bundle do: list its files, pack them, and say where they came from.

#ifndef TITAN_TOOLS_BUNDLE_WRITER_H_
#define TITAN_TOOLS_BUNDLE_WRITER_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/bundle/bundle.h"

namespace titan {

// Paths in a bundle, and the files that they are made from.
using BundleFiles = std::map<std::string, std::string>;

// data.json: sizes and digests of the entries below data/, by corpus. InvalidArgument if `experiment` (the JSON that
// the Jsonnet file gave) reads a corpus that has no files here, or needs a tokenizer and has none.
absl::StatusOr<std::string> DataManifest(std::string_view experiment, const std::vector<ManifestEntry>& entries);

// Whether a file of a bundle is a program, by its path.
bool IsExecutable(std::string_view path);

// Packs the files of a manifest, and MANIFEST itself, into the archive `tar`. Returns its sha256.
absl::StatusOr<std::string> WriteTar(const std::string& manifest, const BundleFiles& files, const std::string& tar);

// An in-toto statement with SLSA v1 provenance as JSON. `subjects` are names and sha256 of what was built. `definition`
// is a JSON object {"target": .., "parameters": {..}, "dependencies": [..]}, whose dependencies are resource
// descriptors of in-toto; `sources` are names and digests of the files of this repository that went in.
absl::StatusOr<std::string> Provenance(const std::map<std::string, std::string>& subjects, std::string_view definition,
                                       const std::vector<ManifestEntry>& sources);

// Copies the bundle in directory `source` to `out`, which must not exist yet, or be empty; without lib/ if `thin`.
// Checks every digest on the way. `out` appears as a whole or not at all.
absl::Status Install(const std::string& source, bool thin, const std::string& out);

}  // namespace titan

#endif  // TITAN_TOOLS_BUNDLE_WRITER_H_
