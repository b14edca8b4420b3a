#include "titan/base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "gtest/gtest.h"

namespace titan {
namespace {

std::string TestPath(const std::string& name) { return testing::TempDir() + "/" + name; }

TEST(File, WritesAndReadsEveryByte) {
  std::string content;
  for (int i = 0; i < 300000; ++i) content.push_back(static_cast<char>(i * 7));
  const std::string path = TestPath("bytes");
  ASSERT_TRUE(WriteFileAtomically(path, content).ok());
  EXPECT_EQ(ReadFile(path).value(), content);
  ASSERT_TRUE(WriteFileAtomically(path, "").ok());
  EXPECT_EQ(ReadFile(path).value(), "");
}

TEST(File, ErrorsNameThePathAndTheReason) {
  const auto missing = ReadFile(TestPath("missing"));
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find(TestPath("missing")), std::string::npos) << missing.status();
  EXPECT_NE(missing.status().message().find("No such file"), std::string::npos) << missing.status();
  EXPECT_FALSE(ReadFile(testing::TempDir()).ok());  // a directory
  EXPECT_FALSE(WriteFileAtomically(TestPath("no/such/directory/file"), "x").ok());
}

TEST(File, LeavesNoTemporaryFileBehind) {
  const std::string directory = TestPath("alone");
  ASSERT_TRUE(MakeDirectories(directory + "/taken").ok());
  EXPECT_FALSE(WriteFileAtomically(directory + "/taken", "x").ok());  // a directory has the name
  ASSERT_TRUE(WriteFileAtomically(directory + "/file", "x").ok());
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) ++entries;
  EXPECT_EQ(entries, 2u);
}

TEST(File, FullDiskLeavesTheOldFile) {
  const std::string path = TestPath("old");
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const absl::Status status = WriteFileAtomically(path, std::string(5000, 'n'));
    _exit(absl::IsResourceExhausted(status) ? 0 : 1);
  }
  int result = 0;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  EXPECT_EQ(result, 0);
  EXPECT_EQ(ReadFile(path).value(), "old");
}

TEST(File, MakesDirectoriesTwice) {
  const std::string path = TestPath("a/b/c");
  EXPECT_TRUE(MakeDirectories(path).ok());
  EXPECT_TRUE(MakeDirectories(path).ok());
  EXPECT_TRUE(SyncDirectory(path).ok());
  ASSERT_TRUE(WriteFileAtomically(path + "/file", "x").ok());
  EXPECT_FALSE(MakeDirectories(path + "/file").ok());
  EXPECT_FALSE(MakeDirectories(path + "/file/below").ok());
  EXPECT_FALSE(SyncDirectory(path + "/missing").ok());
}

TEST(File, SystemErrorsSayWhatToDo) {
  const absl::Status full = SystemError(ENOSPC, "cannot write", "/some/file");
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(full.message().find("free some space"), std::string::npos) << full;
}

TEST(File, UserPathsStartWhereTheUserIs) {
  ASSERT_EQ(setenv("BUILD_WORKING_DIRECTORY", "/home/user/project", 1), 0);
  EXPECT_EQ(UserPath("out"), "/home/user/project/out");
  EXPECT_EQ(UserPath("./a/../b"), "/home/user/project/b");
  EXPECT_EQ(UserPath("/absolute"), "/absolute");
  EXPECT_EQ(UserPath(""), "/home/user/project");
  ASSERT_EQ(unsetenv("BUILD_WORKING_DIRECTORY"), 0);
  EXPECT_EQ(UserPath("out"), std::filesystem::current_path().string() + "/out");
}

TEST(WriteFileAtomically, WritesToADeviceInsteadOfReplacingIt) {
  const std::string pipe = ::testing::TempDir() + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { EXPECT_TRUE(WriteFileAtomically(pipe, "through").ok()); });
  std::ifstream reader(pipe);
  std::string text;
  reader >> text;
  writer.join();
  EXPECT_EQ(text, "through");
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

}  // namespace
}  // namespace titan
