// Stands in for the trainer in tests of the rules: says how it was started, and whether the bundle is whole.

#include <iostream>
#include <string>

#include "tools/bundle/bundle.h"

extern "C" int TitanFakeLibrary();

namespace {

// 0 if every file that the bundle has is the one that its MANIFEST lists.
int CheckFiles(const std::string& bundle, const titan::Manifest& manifest) {
  for (const titan::ManifestEntry& entry : manifest.entries) {
    const absl::StatusOr<titan::ManifestEntry> actual = titan::HashFile(entry.path, bundle + "/" + entry.path);
    if (!actual.ok() && titan::IsRuntimeLibrary(entry.path)) continue;  // VerifyRuntime has seen to it
    if (actual.ok() && actual->sha256 == entry.sha256) continue;
    std::cout << "differs=" << entry.path << "\n";
    return 2;
  }
  return 0;
}

}  // namespace

// fake_trainer --bundle DIR FLAG...
int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) std::cout << "argument=" << argv[i] << "\n";
  const std::string bundle = argc > 2 ? argv[2] : ".";
  const absl::StatusOr<titan::Manifest> manifest = titan::ReadManifest(bundle);
  const absl::Status status = manifest.ok() ? titan::VerifyRuntime(bundle, *manifest) : manifest.status();
  if (!status.ok() || TitanFakeLibrary() != 42) {
    std::cout << status.message() << "\n";
    return 2;
  }
  std::cout << "digest=" << manifest->digest << "\n";
  return CheckFiles(bundle, *manifest);
}
