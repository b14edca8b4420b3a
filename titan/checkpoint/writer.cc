#include "titan/checkpoint/writer.h"

#include <utility>

#include "absl/log/check.h"

namespace titan {

BackgroundWriter::~BackgroundWriter() { Wait().IgnoreError(); }

void BackgroundWriter::Start(std::function<absl::Status()> job) {
  CHECK(!has_job()) << "the result of the job before was not waited for";
  done_ = false;
  thread_ = std::thread([this, job = std::move(job)]() mutable {
    result_ = job();
    job = nullptr;  // and what it holds
    done_ = true;
  });
}

absl::Status BackgroundWriter::Wait() {
  if (!has_job()) return absl::OkStatus();
  thread_.join();
  return std::exchange(result_, absl::OkStatus());
}

}  // namespace titan
