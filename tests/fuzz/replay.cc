// replay FOLDER: what runs a fuzz target where there is no libFuzzer. Every file of the corpus, and a few damaged
// copies of each, always the same ones.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace titan {
namespace {

constexpr int kDamagedCopies = 16;

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string Damaged(std::string input, std::mt19937* random) {
  if (input.empty()) return input;
  const auto place = [&] { return (*random)() % input.size(); };
  switch ((*random)() % 4) {
    case 0:
      input[place()] = static_cast<char>((*random)());
      break;
    case 1:
      input.resize(place());
      break;
    case 2:
      input.erase(place(), 1 + (*random)() % 16);
      break;
    case 3:
      input.insert(place(), input.substr(place(), 1 + (*random)() % 32));
      break;
  }
  return input;
}

std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  return files;
}

int Replay(const std::string& folder) {
  const std::vector<std::string> files = FilesIn(folder);
  std::mt19937 random(1);
  Run("");
  for (const std::string& path : files) {
    // Unbuffered: the last line names the file that ends the process.
    std::cerr << path << std::endl;
    std::ifstream file(path, std::ios::binary);
    const std::string input((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (!file.good() && !file.eof()) return 1;
    Run(input);
    for (int i = 0; i < kDamagedCopies; ++i) Run(Damaged(input, &random));
  }
  std::cerr << files.size() << " inputs and " << files.size() * kDamagedCopies << " damaged ones\n";
  return files.empty() ? 1 : 0;
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: replay FOLDER\n";
    return 2;
  }
  return titan::Replay(argv[1]);
}
