#include "tools/bundle/bundle.h"

#include <dlfcn.h>
#include <link.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

// sha256 of "", "abc".
constexpr char kEmpty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

std::string NewDirectory(const std::string& name) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "/", name);
  EXPECT_TRUE(MakeDirectories(directory).ok());
  return directory;
}

TEST(Manifest, IsSortedAndParsedBack) {
  const std::string text = FormatManifest({{"run", 3, kAbc}, {"bin/x y", 0, kEmpty}});
  EXPECT_EQ(text, absl::StrCat(kEmpty, " 0 bin/x y\n", kAbc, " 3 run\n"));
  const Manifest manifest = ParseManifest(text).value();
  ASSERT_EQ(manifest.entries.size(), 2u);
  EXPECT_EQ(manifest.entries[0].path, "bin/x y");
  EXPECT_EQ(manifest.entries[1].bytes, 3);
  EXPECT_EQ(manifest.digest.size(), 64u);
}

TEST(Manifest, RefusesWhatIsNotOne) {
  const std::string line = absl::StrCat(kAbc, " 3 a\n");
  EXPECT_FALSE(ParseManifest("").ok());
  EXPECT_FALSE(ParseManifest(line.substr(0, line.size() - 1)).ok());  // cut off
  EXPECT_FALSE(ParseManifest(line + line).ok());                      // twice
  EXPECT_FALSE(ParseManifest(absl::StrCat(kAbc, " -3 a\n")).ok());
  EXPECT_FALSE(ParseManifest(absl::StrCat("ABC", " 3 a\n")).ok());
  EXPECT_THAT(std::string(ParseManifest(line + "nonsense\n").status().message()), HasSubstr("line 2"));
}

TEST(Manifest, NamesTheDirectoryThatHasNone) {
  EXPECT_THAT(std::string(ReadManifest("/nowhere").status().message()), HasSubstr("/nowhere/MANIFEST"));
}

TEST(ReadBundleFile, GivesWhatTheManifestSaysOrNothing) {
  const std::string bundle = NewDirectory("files");
  for (const char* file : {"abc", "abd"}) ASSERT_TRUE(WriteFileAtomically(bundle + "/" + file, file).ok());
  const Manifest manifest = {{{"abc", 3, kAbc}, {"abd", 3, kAbc}, {"lost", 3, kAbc}}, ""};
  EXPECT_EQ(ReadBundleFile(bundle, manifest, "abc").value(), "abc");
  const absl::Status damaged = ReadBundleFile(bundle, manifest, "abd").status();
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(damaged.message()), HasSubstr(bundle + "/abd is not what the MANIFEST says"));
  EXPECT_EQ(ReadBundleFile(bundle, manifest, "lost").status().code(), absl::StatusCode::kNotFound);
  // Nothing outside of the bundle, and nothing that came into it later.
  for (const char* path : {"../files/abc", "MANIFEST", ""}) {
    EXPECT_EQ(ReadBundleFile(bundle, manifest, path).status().code(), absl::StatusCode::kNotFound) << path;
  }
}

TEST(VerifyRuntime, FullBundlesNeedNothing) {
  const std::string bundle = NewDirectory("full");
  NewDirectory("full/lib");
  EXPECT_TRUE(VerifyRuntime(bundle, {{{"lib/none.so", 3, kAbc}}, ""}, "").ok());
}

TEST(VerifyRuntime, FindsLibrariesThatAreNotLoaded) {
  const std::string bundle = NewDirectory("thin");
  const std::string machine = NewDirectory("machine");
  ASSERT_TRUE(WriteFileAtomically(machine + "/libabc.so", "abc").ok());
  const Manifest manifest = {{{"lib/libabc.so", 3, kAbc}}, ""};
  EXPECT_TRUE(VerifyRuntime(bundle, manifest, "/nowhere:" + machine).ok());
}

TEST(VerifyRuntime, NamesEveryDifference) {
  const std::string bundle = NewDirectory("thin");
  const std::string machine = NewDirectory("machine");
  ASSERT_TRUE(WriteFileAtomically(machine + "/libabd.so", "abd").ok());
  ASSERT_TRUE(WriteFileAtomically(machine + "/liblong.so", "abcd").ok());
  const Manifest manifest = {
      {{"lib/libabd.so", 3, kAbc}, {"lib/liblong.so", 3, kAbc}, {"lib/libmissing.so", 3, kAbc}, {"bin/x", 1, kAbc}},
      ""};
  const absl::Status status = VerifyRuntime(bundle, manifest, machine);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr(absl::StrCat(machine, "/libabd.so has sha256")));
  EXPECT_THAT(message, HasSubstr("4 bytes, not 3"));
  EXPECT_THAT(message, HasSubstr("lib/libmissing.so: not on this machine"));
  EXPECT_THAT(message, testing::Not(HasSubstr("bin/x")));
}

// What counts is the library that the process runs with, not one of the same name on the search path.
TEST(VerifyRuntime, PrefersWhatIsLoaded) {
  link_map* map = nullptr;
  void* self = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  ASSERT_NE(self, nullptr);
  ASSERT_EQ(dlinfo(self, RTLD_DI_LINKMAP, &map), 0);
  const std::string bundle = NewDirectory("thin");
  const std::string machine = NewDirectory("decoy");
  ASSERT_TRUE(WriteFileAtomically(machine + "/libc.so.6", "abc").ok());
  const ManifestEntry loaded = HashFile("lib/libc.so.6", map->l_name).value();
  EXPECT_TRUE(VerifyRuntime(bundle, {{loaded}, ""}, machine).ok());
  EXPECT_FALSE(VerifyRuntime(bundle, {{{"lib/libc.so.6", 3, kAbc}}, ""}, machine).ok());
}

}  // namespace
}  // namespace titan
