#include "titan/metrics/span_log.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

// Between two calls of Flush, more than this is written at once.
constexpr size_t kMostPending = 1 << 20;

template <typename TimePoint>
int64_t Microseconds(TimePoint time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

// What names the process, or the thread, in a viewer.
std::string NameEvent(std::string_view what, std::string_view name, int64_t rank, int64_t thread) {
  return absl::StrCat("{\"name\": \"", what, "\", \"ph\": \"M\", \"pid\": ", rank, ", \"tid\": ", thread,
                      ", \"args\": {\"name\": \"", name, "\"}},\n");
}

}  // namespace

absl::StatusOr<std::unique_ptr<SpanLog>> SpanLog::Open(const std::string& path, int64_t rank) {
  const absl::StatusOr<std::string> before = ReadFile(path);
  if (!before.ok() && !absl::IsNotFound(before.status())) return before.status();
  std::string kept = before.ok() ? before->substr(0, before->rfind('\n') + 1) : "";
  if (kept.empty()) kept = "[\n";
  if (!before.ok() || kept != *before) TITAN_RETURN_IF_ERROR(WriteFileAtomically(path, kept));
  TITAN_ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(path));
  auto log = std::unique_ptr<SpanLog>(new SpanLog(std::move(file), rank));
  SetSpanListener(log.get());
  return log;
}

SpanLog::SpanLog(AppendFile file, int64_t rank)
    : rank_(rank),
      wall_clock_offset_(Microseconds(std::chrono::system_clock::now()) - Microseconds(Clock::now())),
      file_(std::move(file)),
      lines_(NameEvent("process_name", absl::StrCat("rank ", rank), rank, 0)) {}

SpanLog::~SpanLog() {
  SetSpanListener(nullptr);
  Flush().IgnoreError();
}

int64_t SpanLog::RowOfThread() {
  const auto [found, is_new] = rows_.emplace(ThreadName(), rows_.size());
  if (is_new) lines_ += NameEvent("thread_name", ThreadName(), rank_, found->second);
  return found->second;
}

void SpanLog::OnSpan(const char* name, int64_t number, Clock::time_point begin, Clock::time_point end) {
  absl::MutexLock lock(mutex_);
  const int64_t thread = RowOfThread();
  absl::StrAppend(&lines_, "{\"name\": \"", name, "\", \"ph\": \"X\", \"pid\": ", rank_, ", \"tid\": ", thread,
                  ", \"ts\": ", Microseconds(begin) + wall_clock_offset_,
                  ", \"dur\": ", Microseconds(end) - Microseconds(begin));
  if (number >= 0) absl::StrAppend(&lines_, ", \"args\": {\"number\": ", number, "}");
  lines_ += "},\n";
  // A run that does not come to flush for long must not fill the memory.
  if (lines_.size() > kMostPending) file_.Append(std::exchange(lines_, "")).IgnoreError();
}

absl::Status SpanLog::Flush() {
  absl::MutexLock lock(mutex_);
  return lines_.empty() ? absl::OkStatus() : file_.Append(std::exchange(lines_, ""));
}

}  // namespace titan
