// tokenizer_benchmark [--threads N] [--passes N] TOKENIZER.json CORPUS.jsonl
//
// MB/s and tokens/s over a corpus that is in memory, by the clock and by the processor; the first pass fills the cache
// of words. Threads take document after document. tools/bench/tokenizers_reference.py measures Hugging Face's library.

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/data/text_source.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

constexpr char kUsage[] = "usage: tokenizer_benchmark [--threads N] [--passes N] TOKENIZER.json CORPUS.jsonl";

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Of all threads.
double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return time.tv_sec + time.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

absl::StatusOr<std::vector<std::string>> ReadCorpus(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const auto corpus, OpenJsonl({path}, "text"));
  std::vector<std::string> documents;
  for (int64_t i = 0; i < corpus->size(); ++i) {
    TITAN_ASSIGN_OR_RETURN(std::string text, corpus->Read(i));
    documents.push_back(std::move(text));
  }
  return documents;
}

// The number of tokens of all documents, which `threads` threads encode.
absl::StatusOr<int64_t> EncodeAll(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                                  int64_t threads) {
  std::vector<absl::Status> statuses(threads);
  std::atomic<size_t> next = 0;
  std::atomic<int64_t> tokens = 0;
  const auto work = [&](absl::Status* status) {
    int64_t count = 0;
    for (size_t i = next++; i < documents.size() && status->ok(); i = next++) {
      const absl::StatusOr<std::vector<int64_t>> ids = tokenizer.Encode(documents[i], /*add_special_tokens=*/false);
      if (ids.ok()) {
        count += ids->size();
      } else {
        *status = ids.status();
      }
    }
    tokens += count;
  };
  std::vector<std::thread> pool;
  for (int64_t i = 1; i < threads; ++i) pool.emplace_back(work, &statuses[i]);
  work(&statuses[0]);
  for (std::thread& thread : pool) thread.join();
  for (const absl::Status& status : statuses) TITAN_RETURN_IF_ERROR(status);
  return tokens.load();
}

absl::Status Run(const std::vector<std::string>& arguments) {
  int64_t threads = 1;
  int64_t passes = 3;
  std::vector<std::string> files;
  FlagParser flags;
  flags.Number("threads", "a number of threads", 1, &threads);
  flags.Number("passes", "a number of passes over the corpus", 1, &passes);
  flags.Positional(&files);
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (files.size() != 2) return absl::InvalidArgumentError("expected TOKENIZER.json and CORPUS.jsonl");

  const double start = CpuSeconds();
  TITAN_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(UserPath(files[0])));
  std::cout << "load: " << (CpuSeconds() - start) * 1e3 << " ms\n";
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> documents, ReadCorpus(UserPath(files[1])));
  double bytes = 0;
  for (const std::string& document : documents) bytes += document.size();
  for (int64_t pass = 0; pass < passes; ++pass) {
    const double begin = Seconds();
    const double cpu_begin = CpuSeconds();
    TITAN_ASSIGN_OR_RETURN(const int64_t tokens, EncodeAll(*tokenizer, documents, threads));
    const double seconds = Seconds() - begin;
    const double cpu_seconds = CpuSeconds() - cpu_begin;
    std::cout << "pass " << pass << ": " << bytes / seconds / 1e6 << " MB/s, " << tokens / seconds / 1e6
              << " million tokens/s, " << bytes / cpu_seconds / 1e6 << " MB per second of a core, " << bytes / tokens
              << " bytes per token\n";
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  return titan::ToolMain("tokenizer_benchmark", titan::kUsage, argc, argv, titan::Run);
}
