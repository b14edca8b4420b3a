#include "tools/bundle/data_files.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

using Json = nlohmann::json;

// A file as data.json lists it.
struct ListedFile {
  std::string path;
  int64_t bytes = 0;
  std::string sha256;
};

absl::StatusOr<ListedFile> ReadListedFile(const std::string& bundle, const Json& file) {
  const auto is_text = [&](const char* key) { return file.contains(key) && file[key].is_string(); };
  if (!file.is_object() || !is_text("path") || !is_text("sha256") || !file.contains("bytes") ||
      !file["bytes"].is_number_integer()) {
    return absl::InvalidArgumentError(
        absl::StrCat(bundle, "/data.json: expected path, bytes and sha256 in ", file.dump()));
  }
  return ListedFile{absl::StrCat(bundle, "/", file["path"].get<std::string>()), file["bytes"].get<int64_t>(),
                    file["sha256"].get<std::string>()};
}

// "" or what is wrong with the file.
std::string Damage(const ListedFile& file, bool hash) {
  std::error_code error;
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(file.path, error));
  if (error) return absl::StrCat(file.path, ": ", error.message());
  if (bytes != file.bytes) {
    return absl::StrCat(file.path, " has ", bytes, " bytes, but data.json lists ", file.bytes);
  }
  if (!hash) return "";
  const absl::StatusOr<std::string> sha256 = Sha256OfFile(file.path);
  if (!sha256.ok()) return std::string(sha256.status().message());
  if (*sha256 == file.sha256) return "";
  return absl::StrCat(file.path, " is damaged: its sha256 is ", *sha256, ", but data.json lists ", file.sha256);
}

absl::Status Check(const std::vector<ListedFile>& files, int64_t max_hashed_bytes) {
  int64_t total = 0;
  for (const ListedFile& file : files) total += file.bytes;
  std::vector<std::string> damage;
  for (const ListedFile& file : files) {
    std::string reason = Damage(file, /*hash=*/total <= max_hashed_bytes);
    if (!reason.empty()) damage.push_back(std::move(reason));
  }
  if (damage.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the bundle's data is not what it was built with; copy the bundle again:\n  ", absl::StrJoin(damage, "\n  ")));
}

}  // namespace

absl::StatusOr<DataFiles> ReadDataFiles(const std::string& bundle, int64_t max_hashed_bytes) {
  const std::string path = absl::StrCat(bundle, "/data.json");
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Json data = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!data.is_object() || !data.contains("tokenizer") || !data.contains("corpora") || !data["corpora"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected an object with tokenizer and corpora"));
  }
  std::vector<ListedFile> listed;
  const auto add = [&](const Json& json) -> absl::StatusOr<std::string> {
    TITAN_ASSIGN_OR_RETURN(ListedFile file, ReadListedFile(bundle, json));
    listed.push_back(std::move(file));
    return listed.back().path;
  };
  DataFiles files;
  if (!data["tokenizer"].is_null()) {
    TITAN_ASSIGN_OR_RETURN(files.tokenizer, add(data["tokenizer"]));
  }
  for (auto corpus = data["corpora"].begin(); corpus != data["corpora"].end(); ++corpus) {
    if (!corpus->is_array()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": expected a list of files in corpora.", corpus.key()));
    }
    std::vector<std::string>& paths = files.corpora[corpus.key()];
    for (const Json& file : *corpus) {
      TITAN_ASSIGN_OR_RETURN(paths.emplace_back(), add(file));
    }
  }
  TITAN_RETURN_IF_ERROR(Check(listed, max_hashed_bytes));
  return files;
}

}  // namespace titan
