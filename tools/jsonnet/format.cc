// format NAME <FILE: prints the Jsonnet file on standard input in the one style that //tools/format checks.
// NAME is for messages.

#include <iostream>
#include <iterator>
#include <string>

extern "C" {
#include "libjsonnet.h"
#include "libjsonnet_fmt.h"
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: format NAME <FILE\n";
    return 2;
  }
  const std::string source(std::istreambuf_iterator<char>(std::cin), {});
  JsonnetVm* vm = jsonnet_make();
  int failed = 0;
  char* result = jsonnet_fmt_snippet(vm, argv[1], source.c_str(), &failed);
  (failed ? std::cerr : std::cout) << result;
  jsonnet_realloc(vm, result, 0);
  jsonnet_destroy(vm);
  if (!failed && !std::cout.flush()) {
    std::cerr << "format: cannot write its output\n";
    return 1;
  }
  return failed;
}
