#include "titan/metrics/tensorboard.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "absl/crc/crc32c.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "titan/base/file.h"
#include "titan/base/quantities.h"
#include "titan/base/status_macros.h"
#include "titan/metrics/append_file.h"
#include "titan/metrics/tensorboard_event.pb.h"

namespace titan {
namespace {

namespace fs = std::filesystem;

// A TFRecord: length (uint64), masked CRC-32C of the length's bytes, data, masked CRC-32C of the data; little endian.
constexpr size_t kHeaderBytes = 12;
constexpr size_t kFooterBytes = 4;

template <typename Integer>
void AppendLittleEndian(Integer value, std::string& bytes) {
  for (size_t i = 0; i < sizeof(value); ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
}

// As TFRecord masks it, so that a checksum of data that holds checksums stays a good one.
uint32_t MaskedCrc(std::string_view data) {
  const uint32_t crc = static_cast<uint32_t>(absl::ComputeCrc32c(data));
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string Record(std::string_view data) {
  std::string record;
  AppendLittleEndian<uint64_t>(data.size(), record);
  AppendLittleEndian(MaskedCrc(record), record);
  record.append(data);
  AppendLittleEndian(MaskedCrc(data), record);
  return record;
}

// The event at the front of `file` and the size of its record; nullopt at the end and where the file is damaged.
std::optional<std::pair<tensorboard::Event, size_t>> ParseRecord(std::string_view file) {
  if (file.size() < kHeaderBytes) return std::nullopt;
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<unsigned char>(file[i])} << (8 * i);
  if (length > file.size() - kHeaderBytes || file.size() - kHeaderBytes - length < kFooterBytes) return std::nullopt;
  const std::string_view data = file.substr(kHeaderBytes, length);
  const size_t size = kHeaderBytes + length + kFooterBytes;
  tensorboard::Event event;
  if (Record(data) != file.substr(0, size) || !event.ParseFromArray(data.data(), static_cast<int>(data.size()))) {
    return std::nullopt;
  }
  return std::make_pair(std::move(event), size);
}

// Names of the event files in a directory, oldest first: TensorBoard reads them in the order of their names.
absl::StatusOr<std::vector<std::string>> EventFiles(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (absl::StrContains(it->path().filename().string(), "tfevents")) names.push_back(it->path().filename().string());
  }
  if (error) return SystemError(error.value(), "cannot list", directory);
  std::sort(names.begin(), names.end());
  return names;
}

// Cuts the points of steps after `last_step` off, and a record that was cut short.
absl::Status CutEventFile(const std::string& path, int64_t last_step) {
  TITAN_ASSIGN_OR_RETURN(const std::string file, ReadFile(path));
  size_t kept = 0;
  while (const auto record = ParseRecord(std::string_view(file).substr(kept))) {
    if (record->first.step() > last_step) break;
    kept += record->second;
  }
  if (kept == file.size()) return absl::OkStatus();
  return truncate(path.c_str(), static_cast<off_t>(kept)) == 0 ? absl::OkStatus()
                                                               : SystemError(errno, "cannot shorten", path);
}

std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

// A name that sorts after those of `existing`: events.out.tfevents.SECONDS.HOST.PROCESS.
std::string NewFileName(const std::vector<std::string>& existing) {
  constexpr std::string_view kPrefix = "events.out.tfevents.";
  int64_t seconds = absl::ToUnixSeconds(absl::Now());
  for (std::string_view name : existing) {
    int64_t taken = 0;
    if (absl::ConsumePrefix(&name, kPrefix) && absl::SimpleAtoi(name.substr(0, 10), &taken)) {
      seconds = std::max(seconds, taken + 1);
    }
  }
  return absl::StrFormat("%s%010d.%s.%d", kPrefix, seconds, HostName(), getpid());
}

double WallTime() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

class TensorBoardSink : public MetricsSink {
 public:
  TensorBoardSink(AppendFile file, TensorBoardOptions options)
      : file_(std::move(file)), options_(std::move(options)), window_(options_.log_freq, options_.total_steps) {}

  absl::Status Start() {
    tensorboard::Event event;
    event.set_wall_time(WallTime());
    event.set_file_version("brain.Event:2");
    return Write(event);
  }

  absl::Status Log(const StepMetrics& metrics) override {
    window_.Add(metrics);
    if (!window_.IsLogStep(metrics.step)) return absl::OkStatus();
    return Write(EventOf(window_.Take()));
  }

  absl::Status LogValidation(const ValidationMetrics& metrics) override {
    tensorboard::Event event = EventAt(metrics.step);
    Add("validation_metrics/loss", metrics.loss, event);
    Add("validation_metrics/throughput(tps)", metrics.tokens_per_second, event);
    AddMemory("validation_metrics/", metrics.memory_bytes, event);
    return Write(event);
  }

  absl::Status Flush() override { return file_.Sync(); }

 private:
  static tensorboard::Event EventAt(int64_t step) {
    tensorboard::Event event;
    event.set_wall_time(WallTime());
    event.set_step(step);
    return event;
  }

  static void Add(std::string tag, double value, tensorboard::Event& event) {
    tensorboard::Summary::Value& entry = *event.mutable_summary()->add_value();
    entry.set_tag(std::move(tag));
    entry.set_simple_value(static_cast<float>(value));
  }

  void AddMemory(std::string_view prefix, int64_t bytes, tensorboard::Event& event) const {
    const double memory = static_cast<double>(bytes);
    Add(absl::StrCat(prefix, "memory/max_reserved(GiB)"), memory / kBytesPerGib, event);
    if (options_.memory_capacity_bytes <= 0) return;
    Add(absl::StrCat(prefix, "memory/max_reserved(%)"),
        100 * memory / static_cast<double>(options_.memory_capacity_bytes), event);
  }

  tensorboard::Event EventOf(const StepMetrics& shown) const {
    tensorboard::Event event = EventAt(shown.step);
    const auto add = [&](std::string tag, double value) { Add(std::move(tag), value, event); };
    add("loss_metrics/global_avg_loss", shown.loss);
    add("grad_norm", shown.grad_norm);
    add(absl::StrCat("lr/", options_.optimizer), shown.lr);
    add("n_tokens_seen", static_cast<double>(shown.tokens_seen));
    add("throughput(tps)", shown.tokens_per_second);
    add("tflops", shown.tflops);
    if (shown.mfu > 0) add("mfu(%)", 100 * shown.mfu);
    add("time_metrics/end_to_end(s)", shown.step_seconds);
    add("time_metrics/data_loading(s)", shown.data_seconds);
    if (shown.step_seconds > 0) {
      add("time_metrics/data_loading(%)", 100 * shown.data_seconds / shown.step_seconds);
    }
    AddMemory("", shown.memory_bytes, event);
    return event;
  }

  absl::Status Write(const tensorboard::Event& event) { return file_.Append(Record(event.SerializeAsString())); }

  AppendFile file_;
  TensorBoardOptions options_;
  StepWindow window_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsSink>> OpenTensorBoard(const std::string& directory,
                                                             const TensorBoardOptions& options) {
  TITAN_RETURN_IF_ERROR(MakeDirectories(directory));
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> existing, EventFiles(directory));
  for (const std::string& name : existing) {
    TITAN_RETURN_IF_ERROR(CutEventFile(absl::StrCat(directory, "/", name), options.resume_step));
  }
  TITAN_ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(absl::StrCat(directory, "/", NewFileName(existing))));
  auto sink = std::make_unique<TensorBoardSink>(std::move(file), options);
  TITAN_RETURN_IF_ERROR(sink->Start());
  return sink;
}

}  // namespace titan
