// tokenizer_benchmark TOKENIZER.json CORPUS.jsonl [PASSES]
//
// MB/s and tokens/s of one thread over a corpus, by the processor time used; the first pass fills the cache of words.

#include <cstdlib>
#include <ctime>
#include <iostream>

#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/data/text_source.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

absl::Status Run(int argc, char** argv) {
  const double start = CpuSeconds();
  TITAN_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(UserPath(argv[1])));
  std::cout << "load: " << (CpuSeconds() - start) * 1e3 << " ms\n";
  TITAN_ASSIGN_OR_RETURN(const auto corpus, OpenJsonl({UserPath(argv[2])}, "text"));
  const int passes = argc > 3 ? std::atoi(argv[3]) : 3;
  for (int pass = 0; pass < passes; ++pass) {
    double seconds = 0;
    int64_t bytes = 0;
    int64_t tokens = 0;
    for (int64_t i = 0; i < corpus->size(); ++i) {
      TITAN_ASSIGN_OR_RETURN(const std::string text, corpus->Read(i));
      const double begin = CpuSeconds();
      TITAN_ASSIGN_OR_RETURN(const std::vector<int64_t> ids, tokenizer->Encode(text, false));
      seconds += CpuSeconds() - begin;
      bytes += text.size();
      tokens += ids.size();
    }
    std::cout << "pass " << pass << ": " << bytes / seconds / 1e6 << " MB/s, " << tokens / seconds / 1e6
              << " million tokens/s, " << static_cast<double>(bytes) / tokens << " bytes per token\n";
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: tokenizer_benchmark TOKENIZER.json CORPUS.jsonl [PASSES]\n";
    return 2;
  }
  const absl::Status status = titan::Run(argc, argv);
  if (!status.ok()) std::cerr << "tokenizer_benchmark: " << status.message() << "\n";
  return status.ok() ? 0 : 2;
}
