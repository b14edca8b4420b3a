#include "tests/resume/trainer_runs.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/sha256.h"
#include "tools/bundle/bundle.h"

namespace titan {

namespace fs = std::filesystem;

void WriteTestFile(const std::string& path, std::string_view content) {
  fs::create_directories(fs::path(path).parent_path());
  const absl::Status status = WriteFileAtomically(path, content);
  ASSERT_TRUE(status.ok()) << status;
}

std::string TestTokens() {
  std::string bytes;
  for (int i = 0; i < 3000; ++i) {
    bytes.push_back(static_cast<char>((i * i / 3 + i) % 64));
    bytes.push_back(0);
  }
  return bytes;
}

void WriteTestBundle(const std::string& bundle, std::string_view experiment,
                     const std::map<std::string, std::string>& further) {
  const std::string tokens = TestTokens();
  const nlohmann::json data = {
      {"tokenizer", nullptr},
      {"corpora",
       {{"words",
         {{{"path", "data/words/words.uint16.bin"}, {"bytes", tokens.size()}, {"sha256", Sha256Hex(tokens)}}}}}}};
  std::map<std::string, std::string> files = {{"experiment.json", std::string(experiment)},
                                              {"plan.json", R"({"name": "tests/run"})"},
                                              {"data.json", data.dump()},
                                              {"data/words/words.uint16.bin", tokens}};
  for (const auto& [path, content] : further) files[path] = content;
  std::vector<ManifestEntry> entries;
  for (const auto& [path, content] : files) {
    WriteTestFile(bundle + "/" + path, content);
    entries.push_back({path, static_cast<int64_t>(content.size()), Sha256Hex(content)});
  }
  WriteTestFile(bundle + "/MANIFEST", FormatManifest(entries));
}

TrainerRunTest::TrainerRunTest(std::string_view experiment, const std::map<std::string, std::string>& further_files)
    : directory_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
  fs::remove_all(directory_);
  WriteTestBundle(Path("bundle"), experiment, further_files);
}

std::vector<std::string> TrainerRunTest::Command(const std::string& out, const std::vector<std::string>& flags) const {
  std::vector<std::string> arguments = {"--bundle", Path("bundle"), "--out", Path(out)};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  return arguments;
}

pid_t TrainerRunTest::Start(const std::vector<std::string>& arguments, const std::string& log, const Limits& limits) {
  const pid_t child = fork();
  if (child != 0) return child;
  const rlimit memory = {limits.memory, limits.memory}, file_size = {limits.file_size, limits.file_size};
  setrlimit(RLIMIT_AS, &memory);
  setrlimit(RLIMIT_FSIZE, &file_size);
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  dup2(file, 1);
  dup2(file, 2);
  std::vector<char*> argv = {const_cast<char*>(kTrainer)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(kTrainer, argv.data());
  _exit(127);
}

int TrainerRunTest::Wait(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

int TrainerRunTest::Run(const std::string& out, const std::vector<std::string>& flags, const Limits& limits) const {
  const int status = Wait(Start(Command(out, flags), Path("log"), limits));
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

int TrainerRunTest::RunAndSignal(const std::string& out, int signal, size_t steps) const {
  const pid_t child = Start(Command(out), Path("log"));
  int status = 0;
  while (Lines(out + "/metrics.jsonl").size() < steps) {
    if (waitpid(child, &status, WNOHANG) != 0) return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  kill(child, signal);
  return Wait(child);
}

std::string TrainerRunTest::Log() const { return ReadFile(Path("log")).value_or("no output"); }

std::vector<std::string> TrainerRunTest::Lines(const std::string& name) const {
  std::ifstream file(Path(name));
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

void TrainerRunTest::ExpectSameSteps(const std::string& left, const std::string& right, int64_t steps) const {
  const std::vector<std::string> a = Lines(left + "/metrics.jsonl"), b = Lines(right + "/metrics.jsonl");
  ASSERT_EQ(static_cast<int64_t>(a.size()), steps) << Log();
  ASSERT_EQ(static_cast<int64_t>(b.size()), steps) << Log();
  for (int64_t i = 0; i < steps; ++i) {
    const auto x = nlohmann::json::parse(a[i]), y = nlohmann::json::parse(b[i]);
    for (const char* key : {"step", "loss", "grad_norm", "lr", "tokens_seen"}) {
      ASSERT_EQ(x.at(key), y.at(key)) << key << " of step " << i + 1;
    }
  }
}

void TrainerRunTest::ExpectSameFiles(const std::string& left, const std::string& right, std::string_view ending) const {
  int compared = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(Path(left))) {
    const std::string name = entry.path().filename();
    if (!absl::EndsWith(name, ending)) continue;
    EXPECT_EQ(ReadFile(entry.path()).value(), ReadFile(Path(right) + "/" + name).value_or("no such file")) << name;
    ++compared;
  }
  EXPECT_GE(compared, 1);
}

}  // namespace titan
