#include "tools/bundle/data_files.h"

#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

using Json = nlohmann::json;

absl::StatusOr<std::string> Locate(const std::string& bundle, const Json& file) {
  if (!file.is_object() || !file.contains("path") || !file["path"].is_string() || !file.contains("bytes") ||
      !file["bytes"].is_number_integer()) {
    return absl::InvalidArgumentError(absl::StrCat(bundle, "/data.json: expected path and bytes in ", file.dump()));
  }
  const std::string path = absl::StrCat(bundle, "/", file["path"].get<std::string>());
  std::error_code error;
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("the bundle lacks a data file: ", path, ": ", error.message(), "; copy the bundle again"));
  }
  const auto listed = file["bytes"].get<int64_t>();
  if (bytes == listed) return path;
  return absl::InvalidArgumentError(
      absl::StrCat(path, " has ", bytes, " bytes, but data.json lists ", listed, "; copy the bundle again"));
}

}  // namespace

absl::StatusOr<DataFiles> ReadDataFiles(const std::string& bundle) {
  const std::string path = absl::StrCat(bundle, "/data.json");
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Json data = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!data.is_object() || !data.contains("tokenizer") || !data.contains("corpora") || !data["corpora"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected an object with tokenizer and corpora"));
  }
  DataFiles files;
  if (!data["tokenizer"].is_null()) {
    TITAN_ASSIGN_OR_RETURN(files.tokenizer, Locate(bundle, data["tokenizer"]));
  }
  for (auto corpus = data["corpora"].begin(); corpus != data["corpora"].end(); ++corpus) {
    if (!corpus->is_array()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": expected a list of files in corpora.", corpus.key()));
    }
    std::vector<std::string>& paths = files.corpora[corpus.key()];
    for (const Json& file : *corpus) {
      TITAN_ASSIGN_OR_RETURN(std::string located, Locate(bundle, file));
      paths.push_back(std::move(located));
    }
  }
  return files;
}

}  // namespace titan
