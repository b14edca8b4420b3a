#include "tools/bundle/bundle.h"

#include <link.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "titan/base/file.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

constexpr std::string_view kLibraries = "lib/";
constexpr int kSha256HexDigits = 64;

std::string Basename(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));  // npos + 1 is 0
}

bool IsSha256(std::string_view text) {
  return text.size() == kSha256HexDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

absl::StatusOr<ManifestEntry> ParseLine(std::string_view line) {
  const std::vector<std::string_view> fields = absl::StrSplit(line, absl::MaxSplits(' ', 2));
  ManifestEntry entry;
  if (fields.size() != 3 || !IsSha256(fields[0]) || !absl::SimpleAtoi(fields[1], &entry.bytes) || entry.bytes < 0 ||
      fields[2].empty()) {
    return absl::InvalidArgumentError(absl::StrCat("expected \"<sha256> <bytes> <path>\", found \"", line, "\""));
  }
  entry.sha256 = fields[0];
  entry.path = fields[2];
  return entry;
}

bool IsFile(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

// The shared libraries of this process by file name.
std::map<std::string, std::string> LoadedLibraries() {
  std::map<std::string, std::string> loaded;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        auto& loaded = *static_cast<std::map<std::string, std::string>*>(result);
        if (info->dlpi_name != nullptr && info->dlpi_name[0] != '\0') {
          loaded.emplace(Basename(info->dlpi_name), info->dlpi_name);
        }
        return 0;
      },
      &loaded);
  return loaded;
}

std::optional<std::string> FindLibrary(const std::string& name, const std::map<std::string, std::string>& loaded,
                                       const std::vector<std::string>& directories) {
  if (auto library = loaded.find(name); library != loaded.end()) return library->second;
  for (const std::string& directory : directories) {
    if (std::string file = absl::StrCat(directory, "/", name); IsFile(file)) return file;
  }
  return std::nullopt;
}

// What is wrong with `file` as `expected`; empty if nothing.
std::string Difference(const ManifestEntry& expected, const std::string& file) {
  struct stat status;
  if (stat(file.c_str(), &status) == 0 && status.st_size != expected.bytes) {
    return absl::StrCat(expected.path, ": ", file, " has ", status.st_size, " bytes, not ", expected.bytes);
  }
  const absl::StatusOr<ManifestEntry> actual = HashFile(expected.path, file);
  if (!actual.ok()) return absl::StrCat(expected.path, ": ", actual.status().message());
  if (actual->sha256 == expected.sha256) return "";
  return absl::StrCat(expected.path, ": ", file, " has sha256 ", actual->sha256, ", not ", expected.sha256);
}

}  // namespace

std::string FormatManifest(std::vector<ManifestEntry> entries) {
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  std::string text;
  for (const ManifestEntry& entry : entries) {
    absl::StrAppend(&text, entry.sha256, " ", entry.bytes, " ", entry.path, "\n");
  }
  return text;
}

absl::StatusOr<Manifest> ParseManifest(std::string_view text) {
  Manifest manifest;
  if (!absl::EndsWith(text, "\n")) return absl::InvalidArgumentError("MANIFEST is empty or cut off");
  int number = 0;
  for (std::string_view line : absl::StrSplit(text.substr(0, text.size() - 1), '\n')) {
    ++number;
    absl::StatusOr<ManifestEntry> entry = ParseLine(line);
    if (!entry.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("MANIFEST, line ", number, ": ", entry.status().message()));
    }
    if (!manifest.entries.empty() && entry->path <= manifest.entries.back().path) {
      return absl::InvalidArgumentError(
          absl::StrCat("MANIFEST, line ", number, ": ", entry->path, " is listed twice or out of order"));
    }
    manifest.entries.push_back(*std::move(entry));
  }
  manifest.digest = Sha256Hex(text);
  return manifest;
}

absl::StatusOr<Manifest> ReadManifest(const std::string& bundle) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(absl::StrCat(bundle, "/MANIFEST")));
  absl::StatusOr<Manifest> manifest = ParseManifest(text);
  if (manifest.ok()) return manifest;
  return absl::InvalidArgumentError(absl::StrCat(bundle, "/", manifest.status().message()));
}

absl::StatusOr<std::string> ReadBundleFile(const std::string& bundle, const Manifest& manifest, std::string_view path) {
  const auto entry = std::find_if(manifest.entries.begin(), manifest.entries.end(),
                                  [&](const ManifestEntry& candidate) { return candidate.path == path; });
  if (entry == manifest.entries.end()) return absl::NotFoundError(absl::StrCat("the bundle has no ", path));
  const std::string file = absl::StrCat(bundle, "/", path);
  TITAN_ASSIGN_OR_RETURN(std::string text, ReadFile(file));
  if (Sha256Hex(text) == entry->sha256) return text;
  return absl::DataLossError(absl::StrCat(file, " is not what the MANIFEST says: copy the bundle again"));
}

bool IsRuntimeLibrary(std::string_view path) { return absl::StartsWith(path, kLibraries); }

absl::StatusOr<ManifestEntry> HashFile(const std::string& path, const std::string& file) {
  ManifestEntry entry;
  entry.path = path;
  TITAN_ASSIGN_OR_RETURN(entry.sha256, Sha256OfFile(file));
  std::error_code error;
  entry.bytes = static_cast<int64_t>(std::filesystem::file_size(file, error));
  if (error) return SystemError(error.value(), "cannot read", file);
  return entry;
}

absl::Status VerifyRuntime(const std::string& bundle, const Manifest& manifest, std::string_view search_path) {
  struct stat status;
  if (stat(absl::StrCat(bundle, "/", kLibraries).c_str(), &status) == 0) return absl::OkStatus();

  std::vector<ManifestEntry> libraries;
  std::copy_if(manifest.entries.begin(), manifest.entries.end(), std::back_inserter(libraries),
               [](const ManifestEntry& entry) { return IsRuntimeLibrary(entry.path); });
  const std::map<std::string, std::string> loaded = LoadedLibraries();
  const std::vector<std::string> directories = absl::StrSplit(search_path, ':', absl::SkipEmpty());

  std::vector<std::string> differences(libraries.size());
  std::atomic<size_t> next = 0;
  auto check = [&] {
    for (size_t i = next++; i < libraries.size(); i = next++) {
      const std::optional<std::string> file = FindLibrary(Basename(libraries[i].path), loaded, directories);
      differences[i] =
          file ? Difference(libraries[i], *file) : absl::StrCat(libraries[i].path, ": not on this machine");
    }
  };
  std::vector<std::thread> threads(std::max(1u, std::thread::hardware_concurrency()));
  for (std::thread& thread : threads) thread = std::thread(check);
  for (std::thread& thread : threads) thread.join();

  differences.erase(std::remove(differences.begin(), differences.end(), ""), differences.end());
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("this machine's libraries are not those that the bundle was built with. Install the torch wheel of "
                   "its build, name its folder with --torch_lib, or use the full bundle, which carries them:\n  ",
                   absl::StrJoin(differences, "\n  ")));
}

absl::Status VerifyRuntime(const std::string& bundle, const Manifest& manifest) {
  const char* search_path = getenv("LD_LIBRARY_PATH");
  return VerifyRuntime(bundle, manifest, search_path == nullptr ? "" : search_path);
}

}  // namespace titan
