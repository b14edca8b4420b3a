// make_corpus OUT.jsonl MANIFEST.json LIST
//
// Each line of LIST is "<id>\t<path>". Writes the files, sorted by id, to OUT.jsonl, one {"id", "text"} per line, and
// their sizes and digests to MANIFEST.json. A file that is not UTF-8 is an error.

#include <algorithm>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

struct Source {
  std::string id;
  std::string path;
};

absl::StatusOr<std::vector<Source>> ReadList(const std::string& path) {
  std::ifstream list(path);
  std::vector<Source> sources;
  for (std::string line; std::getline(list, line);) {
    const size_t tab = line.find('\t');
    if (tab == std::string::npos) return absl::InvalidArgumentError(absl::StrCat(path, ": no tab in '", line, "'"));
    sources.push_back({line.substr(0, tab), line.substr(tab + 1)});
  }
  std::sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) { return a.id < b.id; });
  return sources;
}

absl::Status MakeCorpus(const std::string& jsonl_path, const std::string& manifest_path, const std::string& list_path) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<Source> sources, ReadList(list_path));
  std::string jsonl;
  nlohmann::json files = nlohmann::json::array();
  for (const Source& source : sources) {
    TITAN_ASSIGN_OR_RETURN(std::string text, ReadFile(source.path));
    if (const std::optional<size_t> bad = FindInvalidUtf8(text)) {
      return absl::InvalidArgumentError(absl::StrCat(source.path, ": not UTF-8 at byte ", *bad));
    }
    files.push_back({{"id", source.id}, {"bytes", text.size()}, {"sha256", Sha256Hex(text)}});
    absl::StrAppend(&jsonl, nlohmann::json({{"id", source.id}, {"text", std::move(text)}}).dump(), "\n");
  }
  const nlohmann::json manifest = {{"bytes", jsonl.size()}, {"sha256", Sha256Hex(jsonl)}, {"files", files}};
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(jsonl_path, jsonl));
  return WriteFileAtomically(manifest_path, manifest.dump(1) + "\n");
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: make_corpus OUT.jsonl MANIFEST.json LIST\n";
    return 2;
  }
  const absl::Status status = titan::MakeCorpus(argv[1], argv[2], argv[3]);
  if (!status.ok()) std::cerr << "make_corpus: " << status.message() << "\n";
  return status.ok() ? 0 : 2;
}
