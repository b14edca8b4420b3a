#include "tools/bundle/writer.h"

#include <sys/stat.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

std::string Path(const std::string& name) { return absl::StrCat(::testing::TempDir(), "/", name); }

std::string Write(const std::string& name, const std::string& content) {
  const std::string path = Path(name);
  EXPECT_TRUE(MakeDirectories(path.substr(0, path.rfind('/'))).ok());
  EXPECT_TRUE(WriteFileAtomically(path, content).ok());
  return path;
}

// A bundle directory with a trainer, a library and a data file.
std::string WriteBundle(const std::string& name) {
  std::vector<ManifestEntry> entries;
  for (const std::string path : {"bin/titan_trainer", "lib/libtorch.so", "data/c4/a.txt"}) {
    const std::string file = Write(absl::StrCat(name, "/", path), "content of " + path);
    entries.push_back(HashFile(path, file).value());
  }
  Write(name + "/MANIFEST", FormatManifest(entries));
  return Path(name);
}

int ModeOf(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 ? status.st_mode & 0777 : -1;
}

TEST(DataManifest, ListsTokenizerAndCorpora) {
  const std::string experiment = R"({"data": {"sources": [{"corpus": "c4"}, {"corpus": "synthetic"}]}})";
  const std::vector<ManifestEntry> entries = {
      {"data/c4/a.txt", 3, "aa"}, {"data/c4/b.txt", 4, "bb"}, {"data/tokenizer.json", 5, "cc"}, {"run", 1, "dd"}};
  const auto data = nlohmann::json::parse(DataManifest(experiment, entries).value());
  EXPECT_EQ(data, nlohmann::json::parse(R"({
    "tokenizer": {"path": "data/tokenizer.json", "bytes": 5, "sha256": "cc"},
    "corpora": {"c4": [{"path": "data/c4/a.txt", "bytes": 3, "sha256": "aa"},
                       {"path": "data/c4/b.txt", "bytes": 4, "sha256": "bb"}]}})"));
}

TEST(DataManifest, NamesWhatIsMissing) {
  const std::string experiment = R"({"data": {"sources": [{"corpus": "c4"}]}})";
  EXPECT_THAT(std::string(DataManifest(experiment, {}).status().message()), HasSubstr("\"c4\""));
  EXPECT_THAT(std::string(DataManifest(experiment, {{"data/c4/a.txt", 3, "aa"}}).status().message()),
              HasSubstr("tokenizer"));
  const std::string validates = R"({"data": {"sources": [{"corpus": "synthetic"}]},
    "validation": {"enable": true, "sources": [{"corpus": "held_out", "format": "tokens"}]}})";
  EXPECT_THAT(std::string(DataManifest(validates, {}).status().message()),
              HasSubstr("validation.sources reads the corpus \"held_out\""));
  EXPECT_TRUE(DataManifest(validates, {{"data/held_out/a.bin", 3, "aa"}}).ok());
  const std::string holds_out = R"({"data": {"sources": [{"corpus": "synthetic"}]}, "validation": {"enable": true}})";
  EXPECT_TRUE(DataManifest(holds_out, {}).ok()) << "validation reads data.sources";
  const std::string tokens = R"({"data": {"sources": [{"corpus": "c4", "format": "tokens"}]}})";
  EXPECT_TRUE(DataManifest(tokens, {{"data/c4/a.bin", 3, "aa"}}).ok());
}

TEST(WriteTar, IsReadByTarAndSaysNothingAboutThisMachine) {
  const std::string bundle = WriteBundle("to_pack");
  BundleFiles files;
  const Manifest manifest = ReadManifest(bundle).value();
  for (const ManifestEntry& entry : manifest.entries) files[entry.path] = bundle + "/" + entry.path;
  const std::string first = WriteTar(bundle + "/MANIFEST", files, Path("first.tar")).value();
  // Other modes and times of the inputs make no difference.
  for (const auto& [path, file] : files) chmod(file.c_str(), 0600);
  EXPECT_EQ(WriteTar(bundle + "/MANIFEST", files, Path("second.tar")).value(), first);
  EXPECT_EQ(HashFile("", Path("first.tar")).value().sha256, first);

  const std::string out = Path("unpacked");
  ASSERT_EQ(std::system(absl::StrCat("mkdir -p ", out, " && tar -xpf ", Path("first.tar"), " -C ", out).c_str()), 0);
  EXPECT_EQ(ReadFile(out + "/data/c4/a.txt").value(), "content of data/c4/a.txt");
  EXPECT_EQ(ReadFile(out + "/MANIFEST").value(), ReadFile(bundle + "/MANIFEST").value());
  EXPECT_EQ(ModeOf(out + "/bin/titan_trainer"), 0755);
  EXPECT_EQ(ModeOf(out + "/data/c4/a.txt"), 0644);
  struct stat status;
  ASSERT_EQ(stat((out + "/MANIFEST").c_str(), &status), 0);
  EXPECT_EQ(status.st_mtime, 0);
}

TEST(WriteTar, SplitsLongNames) {
  const std::string directory(90, 'd');
  const std::string path = absl::StrCat("data/", directory, "/", std::string(60, 'f'));
  const std::string file = Write("long", "x");
  Write("long.MANIFEST", FormatManifest({HashFile(path, file).value()}));
  ASSERT_TRUE(WriteTar(Path("long.MANIFEST"), {{path, file}}, Path("long.tar")).ok());
  EXPECT_EQ(std::system(absl::StrCat("tar -tf ", Path("long.tar"), " | grep -qx ", path).c_str()), 0);

  const std::string too_long = absl::StrCat("data/", std::string(120, 'f'));
  Write("too_long.MANIFEST", FormatManifest({HashFile(too_long, file).value()}));
  EXPECT_THAT(std::string(WriteTar(Path("too_long.MANIFEST"), {{too_long, file}}, Path("t.tar")).status().message()),
              HasSubstr("too long"));
}

TEST(Provenance, IsAnInTotoStatement) {
  const std::string definition = R"({"parameters": {"target": "//x:y.bundle"},
                                     "dependencies": [{"uri": "pkg:pypi/torch@2.11.0", "digest": {"sha256": "aa"}}]})";
  const auto statement =
      nlohmann::json::parse(Provenance({{"y.tar", "11"}}, definition, {{"titan/a.cc", 3, "bb"}}).value());
  EXPECT_EQ(statement["_type"], "https://in-toto.io/Statement/v1");
  EXPECT_EQ(statement["predicateType"], "https://slsa.dev/provenance/v1");
  EXPECT_EQ(statement["subject"][0]["digest"]["sha256"], "11");
  const auto& build = statement["predicate"]["buildDefinition"];
  EXPECT_EQ(build["externalParameters"]["target"], "//x:y.bundle");
  ASSERT_EQ(build["resolvedDependencies"].size(), 2u);
  EXPECT_EQ(build["resolvedDependencies"][0]["uri"], "pkg:pypi/torch@2.11.0");
  EXPECT_EQ(build["resolvedDependencies"][1]["name"], "titan/a.cc");
}

TEST(Install, CopiesAllOrLeavesTheLibrariesOut) {
  const std::string bundle = WriteBundle("to_install");
  ASSERT_TRUE(Install(bundle, /*thin=*/false, Path("full_copy")).ok());
  ASSERT_TRUE(Install(bundle, /*thin=*/true, Path("thin_copy")).ok());
  EXPECT_TRUE(ReadFile(Path("full_copy/lib/libtorch.so")).ok());
  EXPECT_FALSE(ReadFile(Path("thin_copy/lib/libtorch.so")).ok());
  EXPECT_EQ(ModeOf(Path("thin_copy/bin/titan_trainer")), 0755);
  EXPECT_EQ(ReadManifest(Path("thin_copy")).value().digest, ReadManifest(bundle).value().digest);
}

TEST(Install, LeavesNothingBehindWhenItFails) {
  const std::string bundle = WriteBundle("damaged");
  Write("damaged/data/c4/a.txt", "changed");
  EXPECT_THAT(std::string(Install(bundle, /*thin=*/false, Path("never")).message()), HasSubstr("data/c4/a.txt"));
  EXPECT_EQ(ModeOf(Path("never")), -1);
  EXPECT_EQ(ModeOf(Path("never.unfinished")), -1);
}

TEST(Install, KeepsWhatIsThere) {
  const std::string bundle = WriteBundle("again");
  Write("occupied/file", "mine");
  EXPECT_EQ(Install(bundle, /*thin=*/false, Path("occupied")).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadFile(Path("occupied/file")).value(), "mine");
}

}  // namespace
}  // namespace titan
