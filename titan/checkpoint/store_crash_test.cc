// What is on disk after a save that ended badly: the process killed before each of its changes to the file system, at
// random moments, or a disk that is full.

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/checkpoint/save.h"
#include "titan/checkpoint/store.h"

namespace titan {
namespace {

namespace fs = std::filesystem;

std::string Fresh(const std::string& name) {
  const std::string path = testing::TempDir() + "/" + name;
  fs::remove_all(path);
  return path;
}

// `version` tells two contents of one step apart.
CheckpointContents Contents(int64_t step, int version = 0) {
  const at::Tensor tensor = at::arange(400, at::kFloat).add(static_cast<double>(step) + version);
  return {.step = step,
          .tensors = {{"model.w", tensor}, {"optimizer.exp_avg.w", tensor.add(1)}},
          .state = absl::StrCat("{\"version\": ", version, "}"),
          .experiment = "experiment"};
}

// Whether the folder of a step holds exactly these contents.
bool Holds(const std::string& path, const CheckpointContents& contents) {
  const auto checkpoint = OpenCheckpoint(path);
  if (!checkpoint.ok() || !checkpoint->Verify().ok() || checkpoint->state() != contents.state) return false;
  return std::all_of(contents.tensors.begin(), contents.tensors.end(), [&](const auto& named) {
    const auto tensor = checkpoint->Load(named.first);
    return tensor.ok() && at::equal(*tensor, named.second);
  });
}

// Calls that change files or wait for the disk.
bool ChangesFiles(uint64_t call) {
  static const std::set<uint64_t> calls = {SYS_open,     SYS_openat, SYS_creat,    SYS_write,     SYS_pwrite64,
                                           SYS_fsync,    SYS_rename, SYS_renameat, SYS_renameat2, SYS_unlink,
                                           SYS_unlinkat, SYS_mkdir,  SYS_mkdirat,  SYS_rmdir,     SYS_ftruncate};
  return calls.count(call) > 0;
}

// Runs the save in a child process that is killed right before its call number `kill_at` of those above. Returns
// whether the save came to its end before that; nullopt where processes cannot be traced.
std::optional<bool> SaveKilledAt(const std::string& dir, const CheckpointContents& contents, int kill_at) {
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(3);
    raise(SIGSTOP);
    _exit(SaveCheckpoint(dir, contents).ok() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status)) return std::nullopt;
  ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD);
  bool is_entry = false;
  for (int calls = 0;;) {
    ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return true;
    }
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    is_entry = !is_entry;  // each call stops twice
    if (!is_entry) continue;
    user_regs_struct registers;
    ptrace(PTRACE_GETREGS, child, nullptr, &registers);
    if (ChangesFiles(registers.orig_rax) && calls++ == kill_at) break;
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return false;
}

TEST(StoreCrash, KilledBeforeEachChangeOfANewStep) {
  const std::string dir = Fresh("new");
  bool saw_old = false, finished = false;
  int kill_at = 0;
  for (; !finished; ++kill_at) {
    ASSERT_LT(kill_at, 1000);
    fs::remove_all(dir);
    ASSERT_TRUE(SaveCheckpoint(dir, Contents(1)).ok());
    const std::optional<bool> result = SaveKilledAt(dir, Contents(2), kill_at);
    if (!result) GTEST_SKIP() << "processes cannot be traced here";
    finished = *result;
    EXPECT_TRUE(Holds(dir + "/step-1", Contents(1))) << kill_at;
    const auto latest = FindLatest(dir);
    ASSERT_TRUE(latest.ok()) << kill_at << latest.status();
    EXPECT_TRUE(Holds(latest->path, Contents(latest->step))) << kill_at;
    saw_old |= latest->step == 1;
    if (kill_at % 4 != 0) continue;
    // The next run saves over what is left, and leaves nothing of it.
    ASSERT_TRUE(SaveCheckpoint(dir, Contents(2)).ok()) << kill_at;
    EXPECT_TRUE(Holds(dir + "/step-2", Contents(2))) << kill_at;
    EXPECT_EQ(std::distance(fs::directory_iterator(dir), fs::directory_iterator()), 2) << kill_at;
  }
  EXPECT_TRUE(saw_old);
  EXPECT_GT(kill_at, 20);  // the save has that many steps at least
}

TEST(StoreCrash, KilledBeforeEachChangeOfAReplacedStep) {
  const std::string dir = Fresh("replaced");
  bool finished = false;
  for (int kill_at = 0; !finished; ++kill_at) {
    ASSERT_LT(kill_at, 1000);
    fs::remove_all(dir);
    ASSERT_TRUE(SaveCheckpoint(dir, Contents(1, 0)).ok());
    const std::optional<bool> result = SaveKilledAt(dir, Contents(1, 1), kill_at);
    if (!result) GTEST_SKIP() << "processes cannot be traced here";
    finished = *result;
    const auto latest = FindLatest(dir);
    ASSERT_TRUE(latest.ok()) << kill_at << latest.status();
    EXPECT_TRUE(Holds(latest->path, Contents(1, 1)) || (!finished && Holds(latest->path, Contents(1, 0)))) << kill_at;
  }
}

TEST(StoreCrash, KilledAtRandomMoments) {
  const std::string dir = Fresh("random");
  ASSERT_TRUE(SaveCheckpoint(dir, Contents(0)).ok());
  std::mt19937 random(1);
  for (int i = 0; i < 10; ++i) {
    const int64_t first = FindLatest(dir)->step + 1;
    const pid_t child = fork();
    if (child == 0) {
      for (int64_t step = first;; ++step) {
        if (!SaveCheckpoint(dir, Contents(step)).ok() || !PruneCheckpoints(dir, 3).ok()) _exit(1);
      }
    }
    usleep(random() % 60000);
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the save failed by itself";
    const std::vector<StoredStep> steps = ListCheckpoints(dir).value();
    for (const StoredStep& step : steps) {
      EXPECT_TRUE(Holds(step.path, Contents(step.step))) << step.path;
    }
  }
}

TEST(StoreCrash, FullDisk) {
  const std::string dir = Fresh("full");
  ASSERT_TRUE(SaveCheckpoint(dir, Contents(1)).ok());
  const std::string step = dir + "/step-1";
  std::set<uintmax_t> sizes;
  for (const auto& entry : fs::directory_iterator(step)) sizes.insert(entry.file_size());
  ASSERT_GT(sizes.size(), 3u);
  // A limit just below the size of each file: each one is the first that does not fit, or nothing fits.
  for (const uintmax_t size : sizes) {
    const pid_t child = fork();
    if (child == 0) {
      signal(SIGXFSZ, SIG_IGN);
      const rlimit limit = {size - 1, size - 1};
      setrlimit(RLIMIT_FSIZE, &limit);
      const auto result = SaveCheckpoint(dir, Contents(2));
      _exit(absl::IsResourceExhausted(result.status()) ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0) << size;
    EXPECT_TRUE(Holds(step, Contents(1))) << size;
    EXPECT_EQ(std::distance(fs::directory_iterator(dir), fs::directory_iterator()), 1) << size;
  }
}

}  // namespace
}  // namespace titan
