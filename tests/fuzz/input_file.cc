#include "tests/fuzz/input_file.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "tests/fuzz/fuzz_target.h"

namespace titan {
namespace {

// In memory where the system has such a folder: a fuzzer writes thousands of files a second.
struct Folder {
  Folder() {
    const char* const parent = std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
    path = std::string(parent) + "/titan_fuzz_XXXXXX";
    REQUIRE(mkdtemp(path.data()) != nullptr);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }

  std::string path;
};

}  // namespace

std::string WriteInput(const std::string& name, std::string_view bytes) {
  static const Folder folder;
  const std::string path = folder.path + "/" + name;
  // Removed and not emptied: whoever has mapped the earlier one may still read it.
  std::filesystem::remove(path);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  REQUIRE(file.good());
  return path;
}

}  // namespace titan
