#include "titan/train/profiler.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using torch::profiler::impl::ActivityType;

torch::profiler::impl::ProfilerConfig KinetoConfig() {
  return torch::profiler::impl::ProfilerConfig(torch::profiler::impl::ProfilerState::KINETO);
}

std::set<ActivityType> ActivitiesOf(c10::Device device) {
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  return activities;
}

void WaitFor(c10::Device device) {
  if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

}  // namespace

StepProfiler::StepProfiler(const config::Profiling& profiling, std::string run_directory, int64_t rank,
                           c10::Device device)
    : profiling_(profiling), run_directory_(std::move(run_directory)), rank_(rank), device_(device) {}

// Where the run ends within a cycle there is nothing to keep, but the profiler must not stay on.
StepProfiler::~StepProfiler() {
  if (state_ == State::kRecording) torch::autograd::profiler::disableProfiler();
}

void StepProfiler::BeginStep(int64_t step) {
  if (!profiling_.enable_profiling()) return;
  const int64_t place = (step - 1) % profiling_.profile_freq();
  const int64_t first_active = profiling_.profile_freq() - profiling_.profiler_active();
  // A run that continues within a cycle begins with the next one.
  if (state_ == State::kOff && place == first_active - profiling_.profiler_warmup()) {
    torch::autograd::profiler::prepareProfiler(KinetoConfig(), ActivitiesOf(device_));
    state_ = State::kReady;
  }
  if (state_ == State::kReady && place == first_active) {
    WaitFor(device_);  // what earlier steps have left to do is not this one's
    torch::autograd::profiler::enableProfiler(KinetoConfig(), ActivitiesOf(device_));
    state_ = State::kRecording;
  }
}

absl::Status StepProfiler::EndStep(int64_t step) {
  if (state_ != State::kRecording || step % profiling_.profile_freq() != 0) return absl::OkStatus();
  WaitFor(device_);
  state_ = State::kOff;
  return Write(step);
}

absl::Status StepProfiler::Write(int64_t step) {
  const auto result = torch::autograd::profiler::disableProfiler();
  const std::string folder = absl::StrCat(run_directory_, "/", profiling_.save_traces_folder(), "/iteration_", step);
  TITAN_RETURN_IF_ERROR(MakeDirectories(folder));
  const std::string path = absl::StrCat(folder, "/rank", rank_, "_trace.json");
  result->save(path);
  std::error_code error;
  if (std::filesystem::file_size(path, error) == 0 || error) {
    return absl::UnavailableError(absl::StrCat("cannot write ", path, "; is the disk full?"));
  }
  return absl::OkStatus();
}

}  // namespace titan
