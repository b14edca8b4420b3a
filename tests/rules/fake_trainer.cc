// Stands in for the trainer in tests of the rules: says how it was started, and whether the bundle is whole.

#include <iostream>
#include <string>

#include "tools/bundle/bundle.h"

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) std::cout << "argument=" << argv[i] << "\n";
  const std::string bundle = argc > 2 ? argv[2] : ".";
  const absl::StatusOr<titan::Manifest> manifest = titan::ReadManifest(bundle);
  if (!manifest.ok()) {
    std::cout << manifest.status() << "\n";
    return 2;
  }
  std::cout << "digest=" << manifest->digest << "\n";
  for (const titan::ManifestEntry& entry : manifest->entries) {
    const absl::StatusOr<titan::ManifestEntry> actual = titan::HashFile(entry.path, bundle + "/" + entry.path);
    if (!actual.ok() || actual->sha256 != entry.sha256) {
      std::cout << "differs=" << entry.path << "\n";
      return 2;
    }
  }
  return 0;
}
