#include "tools/bundle/writer.h"

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "tools/bundle/tar.h"

namespace titan {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kData = "data/";
constexpr std::string_view kTokenizer = "data/tokenizer.json";
// The one corpus that is not read but generated.
constexpr std::string_view kSynthetic = "synthetic";

Json Describe(const ManifestEntry& entry) {
  return {{"path", entry.path}, {"bytes", entry.bytes}, {"sha256", entry.sha256}};
}

// What the sources of `group` of `experiment` read that `data` lacks.
absl::Status CheckSourcesOf(const std::string& group, const Json& experiment, const Json& data) {
  const auto found = experiment.find(group);
  if (found == experiment.end() || !found->is_object() || !found->contains("sources")) {
    return absl::InvalidArgumentError(absl::StrCat("the experiment has no ", group, ".sources"));
  }
  for (const Json& source : (*found)["sources"]) {
    if (!source.is_object()) {
      return absl::InvalidArgumentError(absl::StrCat("an element of ", group, ".sources is not an object"));
    }
    const std::string corpus = source.value("corpus", "");
    if (corpus == kSynthetic) continue;
    if (!data["corpora"].contains(corpus)) {
      return absl::InvalidArgumentError(absl::StrCat(group, ".sources reads the corpus \"", corpus,
                                                     "\", which the target does not bind: add it to its `corpora`"));
    }
    if (source.value("format", "text") != "tokens" && data["tokenizer"].is_null()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the corpus \"", corpus, "\" is text, but the target has no `tokenizer`"));
    }
  }
  return absl::OkStatus();
}

// What `experiment` reads that `data` lacks. Whether the fields make sense is the strict reader's business, not ours.
absl::Status CheckSources(std::string_view experiment, const Json& data) {
  const Json parsed = Json::parse(experiment, nullptr, /*allow_exceptions=*/false);
  TITAN_RETURN_IF_ERROR(CheckSourcesOf("data", parsed, data));
  const auto validation = parsed.find("validation");
  // Without sources of its own, validation reads what data.sources hold out.
  const bool validates = validation != parsed.end() && validation->is_object() && validation->contains("enable") &&
                         (*validation)["enable"] == true && validation->contains("sources");
  return validates ? CheckSourcesOf("validation", parsed, data) : absl::OkStatus();
}

absl::Status Copy(const std::string& source, const ManifestEntry& entry, const std::string& out) {
  const fs::path from = fs::path(source) / entry.path;
  const fs::path to = fs::path(out) / entry.path;
  TITAN_RETURN_IF_ERROR(MakeDirectories(to.parent_path().string()));
  std::error_code error;
  fs::copy_file(from, to, error);
  if (error) return absl::DataLossError(absl::StrCat("cannot copy ", from.string(), ": ", error.message()));
  TITAN_ASSIGN_OR_RETURN(const ManifestEntry copied, HashFile(entry.path, to.string()));
  if (copied.sha256 != entry.sha256) {
    return absl::DataLossError(absl::StrCat(from.string(), " is not what the MANIFEST says: build the bundle again"));
  }
  using Perms = fs::perms;
  const Perms read = Perms::owner_read | Perms::owner_write | Perms::group_read | Perms::others_read;
  const Perms execute = Perms::owner_exec | Perms::group_exec | Perms::others_exec;
  fs::permissions(to, IsExecutable(entry.path) ? read | execute : read, error);
  if (error) return absl::DataLossError(absl::StrCat("cannot set the mode of ", to.string(), ": ", error.message()));
  return absl::OkStatus();
}

absl::Status CopyAll(const std::string& source, const Manifest& manifest, bool thin, const std::string& out) {
  for (const ManifestEntry& entry : manifest.entries) {
    if (thin && IsRuntimeLibrary(entry.path)) continue;
    TITAN_RETURN_IF_ERROR(Copy(source, entry, out));
  }
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(absl::StrCat(source, "/MANIFEST")));
  return WriteFileAtomically(absl::StrCat(out, "/MANIFEST"), text);
}

}  // namespace

absl::StatusOr<std::string> DataManifest(std::string_view experiment, const std::vector<ManifestEntry>& entries) {
  Json data = {{"tokenizer", nullptr}, {"corpora", Json::object()}};
  for (const ManifestEntry& entry : entries) {
    std::string_view name = entry.path;
    if (name == kTokenizer) {
      data["tokenizer"] = Describe(entry);
    } else if (absl::ConsumePrefix(&name, kData)) {
      data["corpora"][std::string(name.substr(0, name.find('/')))].push_back(Describe(entry));
    }
  }
  TITAN_RETURN_IF_ERROR(CheckSources(experiment, data));
  return data.dump(2) + "\n";
}

bool IsExecutable(std::string_view path) {
  return path == "run" || absl::StartsWith(path, "bin/") || IsRuntimeLibrary(path);
}

absl::StatusOr<std::string> WriteTar(const std::string& manifest, const BundleFiles& files, const std::string& tar) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(manifest));
  TITAN_ASSIGN_OR_RETURN(const Manifest parsed, ParseManifest(text));
  TarWriter writer(tar);
  TITAN_RETURN_IF_ERROR(writer.AddFile("MANIFEST", manifest, /*executable=*/false));
  for (const ManifestEntry& entry : parsed.entries) {
    const auto file = files.find(entry.path);
    if (file == files.end()) return absl::InternalError(absl::StrCat("no file for ", entry.path));
    TITAN_RETURN_IF_ERROR(writer.AddFile(entry.path, file->second, IsExecutable(entry.path)));
  }
  return writer.Finish();
}

absl::StatusOr<std::string> Provenance(const std::map<std::string, std::string>& subjects, std::string_view definition,
                                       const std::vector<ManifestEntry>& sources) {
  const Json parsed = Json::parse(definition, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::InvalidArgumentError("the build definition is not JSON");
  Json dependencies = parsed["dependencies"];
  for (const ManifestEntry& source : sources) {
    dependencies.push_back({{"name", source.path}, {"digest", {{"sha256", source.sha256}}}});
  }
  Json subject = Json::array();
  for (const auto& [name, sha256] : subjects) {
    subject.push_back({{"name", name}, {"digest", {{"sha256", sha256}}}});
  }
  const Json statement = {
      {"_type", "https://in-toto.io/Statement/v1"},
      {"subject", subject},
      {"predicateType", "https://slsa.dev/provenance/v1"},
      {"predicate",
       {{"buildDefinition",
         {{"buildType", "tag:titan,2026:bazel/titan_experiment"},
          {"externalParameters", parsed["parameters"]},
          {"resolvedDependencies", dependencies}}},
        {"runDetails", {{"builder", {{"id", "tag:titan,2026:bazelw"}}}}}}},
  };
  return statement.dump(2) + "\n";
}

absl::Status Install(const std::string& source, bool thin, const std::string& out) {
  TITAN_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(source));
  std::error_code error;
  if (fs::exists(out, error) && !fs::is_empty(out, error)) {
    return absl::AlreadyExistsError(absl::StrCat(out, " exists: remove it, or choose another --out"));
  }
  const std::string unfinished = out + ".unfinished";
  fs::remove_all(unfinished, error);  // of an attempt that was interrupted
  absl::Status status = CopyAll(source, manifest, thin, unfinished);
  if (status.ok()) {
    fs::rename(unfinished, out, error);
    if (error) status = absl::InternalError(absl::StrCat("cannot create ", out, ": ", error.message()));
  }
  if (!status.ok()) fs::remove_all(unfinished, error);
  return status;
}

}  // namespace titan
