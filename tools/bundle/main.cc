// The tool of the bundle rules (tools/build_defs/titan_experiment.bzl), which call it in build actions:
//
//   bundle hash --out=F PATH=FILE...       a part of a MANIFEST: what is slow to read and seldom changes (libraries)
//   bundle index --experiment=JSON --hashed=F --manifest=M --digest=D --data_manifest=J --source_list=S
//       --source=NAME=FILE... PATH=FILE...
//                                          writes data.json, sources.txt, MANIFEST with both, and its digest
//   bundle tar --manifest=M --tar=T --provenance=P --definition=J --source_list=S PATH=FILE...
//
// and a user, through `bazel run :x.bundle -- --out=DIR [--thin]`:
//
//   bundle install --bundle=DIR [--thin] --out=DIR
//
// PATH=FILE names a file of the bundle and where it is now. `@FILE` stands for arguments, one per line. Exit code 2
// when something is wrong, with the reason.

#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "tools/bundle/bundle.h"
#include "tools/bundle/writer.h"

namespace titan {
namespace {

struct Arguments {
  std::map<std::string, std::string> flags;
  BundleFiles sources;
  BundleFiles files;

  // A flag that the rule always passes, or that the user must.
  absl::StatusOr<std::string> Get(const std::string& name) const {
    const auto flag = flags.find(name);
    if (flag == flags.end() || flag->second.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " is missing"));
    }
    return flag->second;
  }
};

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

// "--out DIR" as "--out=DIR", which the rest expects.
std::vector<std::string> JoinFlags(const std::vector<std::string>& arguments) {
  std::vector<std::string> joined;
  for (const std::string& argument : arguments) {
    if (!joined.empty() && absl::StartsWith(joined.back(), "--") && joined.back() != "--thin" &&
        !absl::StrContains(joined.back(), '=') && !absl::StartsWith(argument, "--")) {
      absl::StrAppend(&joined.back(), "=", argument);
    } else {
      joined.push_back(argument);
    }
  }
  return joined;
}

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& arguments, const std::vector<std::string>& allowed) {
  Arguments parsed;
  for (const std::string& argument : arguments) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(argument, absl::MaxSplits('=', 1));
    if (!absl::StartsWith(argument, "--")) {
      if (parts.second.empty()) return absl::InvalidArgumentError(absl::StrCat("not PATH=FILE: ", argument));
      parsed.files.insert(parts);
      continue;
    }
    const std::string name = parts.first.substr(2);
    if (name == "source") {
      parsed.sources.insert(std::pair<std::string, std::string>(absl::StrSplit(parts.second, absl::MaxSplits('=', 1))));
    } else if (std::find(allowed.begin(), allowed.end(), name) != allowed.end()) {
      parsed.flags[name] = parts.second;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown flag --", name, "; known are --", absl::StrJoin(allowed, ", --")));
    }
  }
  return parsed;
}

absl::StatusOr<std::vector<ManifestEntry>> HashAll(const BundleFiles& files) {
  std::vector<ManifestEntry> entries;
  for (const auto& [path, file] : files) {
    TITAN_ASSIGN_OR_RETURN(ManifestEntry entry, HashFile(path, file));
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::Status Hash(const Arguments& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::string out, arguments.Get("out"));
  TITAN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> entries, HashAll(arguments.files));
  return WriteFileAtomically(out, FormatManifest(entries));
}

absl::Status Index(const Arguments& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::string experiment_file, arguments.Get("experiment"));
  TITAN_ASSIGN_OR_RETURN(const std::string hashed_file, arguments.Get("hashed"));
  TITAN_ASSIGN_OR_RETURN(const std::string manifest_file, arguments.Get("manifest"));
  TITAN_ASSIGN_OR_RETURN(const std::string digest_file, arguments.Get("digest"));
  TITAN_ASSIGN_OR_RETURN(const std::string data_file, arguments.Get("data_manifest"));
  TITAN_ASSIGN_OR_RETURN(const std::string source_file, arguments.Get("source_list"));

  TITAN_ASSIGN_OR_RETURN(std::vector<ManifestEntry> entries, HashAll(arguments.files));
  TITAN_ASSIGN_OR_RETURN(const std::string experiment, ReadFile(experiment_file));
  TITAN_ASSIGN_OR_RETURN(const std::string data, DataManifest(experiment, entries));
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(data_file, data));
  TITAN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> sources, HashAll(arguments.sources));
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

absl::Status Tar(const Arguments& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::string manifest, arguments.Get("manifest"));
  TITAN_ASSIGN_OR_RETURN(const std::string tar, arguments.Get("tar"));
  TITAN_ASSIGN_OR_RETURN(const std::string provenance_file, arguments.Get("provenance"));
  TITAN_ASSIGN_OR_RETURN(const std::string definition_file, arguments.Get("definition"));
  TITAN_ASSIGN_OR_RETURN(const std::string source_file, arguments.Get("source_list"));

  TITAN_ASSIGN_OR_RETURN(const std::string tar_sha256, WriteTar(manifest, arguments.files, tar));
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

absl::Status InstallBundle(const Arguments& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::string bundle, arguments.Get("bundle"));
  TITAN_ASSIGN_OR_RETURN(const std::string out, arguments.Get("out"));
  const bool thin = arguments.flags.count("thin") > 0;
  TITAN_RETURN_IF_ERROR(Install(bundle, thin, UserPath(out)));
  TITAN_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(bundle));
  std::cout << UserPath(out) << ": " << (thin ? "thin" : "full") << " bundle " << manifest.digest << "\nStart it with "
            << UserPath(out) << "/run\n";
  return absl::OkStatus();
}

struct Command {
  absl::Status (*run)(const Arguments&);
  std::vector<std::string> flags;
};

absl::Status Main(const std::vector<std::string>& arguments) {
  const std::map<std::string, Command> commands = {
      {"hash", {Hash, {"out"}}},
      {"index", {Index, {"experiment", "hashed", "manifest", "digest", "data_manifest", "source_list"}}},
      {"tar", {Tar, {"manifest", "tar", "provenance", "definition", "source_list"}}},
      {"install", {InstallBundle, {"bundle", "out", "thin"}}},
  };
  const auto command = arguments.empty() ? commands.end() : commands.find(arguments[0]);
  if (command == commands.end()) return absl::InvalidArgumentError("usage: bundle hash|index|tar|install FLAGS");
  std::vector<std::string> expanded;
  for (size_t i = 1; i < arguments.size(); ++i) TITAN_RETURN_IF_ERROR(Expand(arguments[i], expanded));
  TITAN_ASSIGN_OR_RETURN(const Arguments parsed, Parse(JoinFlags(expanded), command->second.flags));
  return command->second.run(parsed);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  const absl::Status status = titan::Main({argv + 1, argv + argc});
  if (status.ok()) return 0;
  std::cerr << "bundle: " << status.message() << "\n";
  return 2;
}
