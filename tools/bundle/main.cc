// The tool of the bundle rules (tools/build_defs/bundle.bzl). See kUsage.

#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "tools/bundle/bundle.h"
#include "tools/bundle/writer.h"

namespace titan {
namespace {

constexpr char kUsage[] = R"(usage, by build actions:
  bundle hash --out=F PATH=FILE...
      a part of a MANIFEST: what is slow to read and seldom changes (libraries)
  bundle index --experiment=JSON --hashed=F --manifest=M --digest=D --data_manifest=J --source_list=S
      --source=NAME=FILE... PATH=FILE...
      writes data.json, sources.txt, MANIFEST with both, and its digest
  bundle tar --manifest=M --tar=T --provenance=P --definition=J --source_list=S PATH=FILE...
and by a user, through `bazel run :x.bundle -- --out DIR [--thin]`:
  bundle install --bundle DIR --out DIR [--thin]
PATH=FILE names a file of the bundle and where it is now. @FILE stands for arguments, one per line.)";

// Appends `argument`, or the lines of the file that it names with a leading '@'.
absl::Status Expand(const std::string& argument, std::vector<std::string>& expanded) {
  if (!absl::StartsWith(argument, "@")) {
    expanded.push_back(argument);
    return absl::OkStatus();
  }
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(argument.substr(1)));
  for (std::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) expanded.emplace_back(line);
  return absl::OkStatus();
}

// Of "PATH=FILE" or "NAME=FILE".
absl::StatusOr<BundleFiles> SplitPairs(const std::vector<std::string>& pairs) {
  BundleFiles files;
  for (const std::string& pair : pairs) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(pair, absl::MaxSplits('=', 1));
    if (parts.second.empty()) return absl::InvalidArgumentError(absl::StrCat("not PATH=FILE: ", pair));
    files.insert(parts);
  }
  return files;
}

// Parses a build action's arguments: a text for each of `required`, --source as often as it comes, and PATH=FILE...
absl::StatusOr<BundleFiles> ParseAction(const std::vector<std::string>& arguments,
                                        const std::vector<std::pair<std::string, std::string*>>& required,
                                        std::vector<std::string>* sources = nullptr) {
  std::vector<std::string> expanded, pairs, names;
  for (const std::string& argument : arguments) TITAN_RETURN_IF_ERROR(Expand(argument, expanded));
  FlagParser flags;
  for (const auto& [name, value] : required) {
    flags.Text(name, value);
    names.push_back(name);
  }
  if (sources != nullptr) flags.List("source", sources);
  flags.Positional(&pairs);
  flags.Require(names);
  TITAN_RETURN_IF_ERROR(flags.Parse(expanded));
  return SplitPairs(pairs);
}

absl::StatusOr<std::vector<ManifestEntry>> HashAll(const BundleFiles& files) {
  std::vector<ManifestEntry> entries;
  for (const auto& [path, file] : files) {
    TITAN_ASSIGN_OR_RETURN(ManifestEntry entry, HashFile(path, file));
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::Status Hash(const std::vector<std::string>& arguments) {
  std::string out;
  TITAN_ASSIGN_OR_RETURN(const BundleFiles files, ParseAction(arguments, {{"out", &out}}));
  TITAN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> entries, HashAll(files));
  return WriteFileAtomically(out, FormatManifest(entries));
}

absl::Status Index(const std::vector<std::string>& arguments) {
  std::string experiment_file, hashed_file, manifest_file, digest_file, data_file, source_file;
  std::vector<std::string> source_pairs;
  TITAN_ASSIGN_OR_RETURN(const BundleFiles files, ParseAction(arguments,
                                                              {{"experiment", &experiment_file},
                                                               {"hashed", &hashed_file},
                                                               {"manifest", &manifest_file},
                                                               {"digest", &digest_file},
                                                               {"data_manifest", &data_file},
                                                               {"source_list", &source_file}},
                                                              &source_pairs));
  TITAN_ASSIGN_OR_RETURN(const BundleFiles source_files, SplitPairs(source_pairs));

  TITAN_ASSIGN_OR_RETURN(std::vector<ManifestEntry> entries, HashAll(files));
  TITAN_ASSIGN_OR_RETURN(const std::string experiment, ReadFile(experiment_file));
  TITAN_ASSIGN_OR_RETURN(const std::string data, DataManifest(experiment, entries));
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(data_file, data));
  TITAN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> sources, HashAll(source_files));
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(source_file, FormatManifest(sources)));
  const BundleFiles written = {{"data.json", data_file}, {"sources.txt", source_file}};
  TITAN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> written_entries, HashAll(written));
  entries.insert(entries.end(), written_entries.begin(), written_entries.end());

  TITAN_ASSIGN_OR_RETURN(const std::string hashed_text, ReadFile(hashed_file));
  if (!hashed_text.empty()) {
    TITAN_ASSIGN_OR_RETURN(const Manifest hashed, ParseManifest(hashed_text));
    entries.insert(entries.end(), hashed.entries.begin(), hashed.entries.end());
  }
  const std::string text = FormatManifest(std::move(entries));
  TITAN_ASSIGN_OR_RETURN(const Manifest manifest, ParseManifest(text));
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(digest_file, manifest.digest + "\n"));
  return WriteFileAtomically(manifest_file, text);
}

absl::Status Tar(const std::vector<std::string>& arguments) {
  std::string manifest, tar, provenance_file, definition_file, source_file;
  TITAN_ASSIGN_OR_RETURN(const BundleFiles files, ParseAction(arguments, {{"manifest", &manifest},
                                                                          {"tar", &tar},
                                                                          {"provenance", &provenance_file},
                                                                          {"definition", &definition_file},
                                                                          {"source_list", &source_file}}));

  TITAN_ASSIGN_OR_RETURN(const std::string tar_sha256, WriteTar(manifest, files, tar));
  TITAN_ASSIGN_OR_RETURN(const ManifestEntry manifest_entry, HashFile("MANIFEST", manifest));
  TITAN_ASSIGN_OR_RETURN(const std::string source_text, ReadFile(source_file));
  TITAN_ASSIGN_OR_RETURN(const Manifest sources, ParseManifest(source_text));
  TITAN_ASSIGN_OR_RETURN(const std::string definition, ReadFile(definition_file));
  const std::string name = tar.substr(tar.rfind('/') + 1);
  TITAN_ASSIGN_OR_RETURN(
      const std::string provenance,
      Provenance({{name, tar_sha256}, {"MANIFEST", manifest_entry.sha256}}, definition, sources.entries));
  return WriteFileAtomically(provenance_file, provenance);
}

absl::Status InstallBundle(const std::vector<std::string>& arguments) {
  std::string bundle, out;
  bool thin = false;
  FlagParser flags;
  flags.Text("bundle", &bundle);  // by the rule, from where the tool runs
  flags.Path("out", &out);
  flags.Switch("thin", &thin);
  flags.Require({"bundle", "out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  TITAN_RETURN_IF_ERROR(Install(bundle, thin, out));
  TITAN_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(bundle));
  std::cout << out << ": " << (thin ? "thin" : "full") << " bundle " << manifest.digest << "\nStart it with " << out
            << "/run\n";
  return absl::OkStatus();
}

absl::Status Run(const std::vector<std::string>& arguments) {
  return RunCommand({{"hash", Hash}, {"index", Index}, {"tar", Tar}, {"install", InstallBundle}}, arguments);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("bundle", titan::kUsage, argc, argv, titan::Run); }
