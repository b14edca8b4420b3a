// Where a GPU's time went, from a trace in Chrome's format (titan/train/profiler.h, or PyTorch's profiler).
//
//   TITAN_ASSIGN_OR_RETURN(const TraceBreakdown breakdown, BreakDownTrace(ReadFile("rank0_trace.json")));
//   std::cout << FormatBreakdown(breakdown);

#ifndef TITAN_METRICS_TRACE_BREAKDOWN_H_
#define TITAN_METRICS_TRACE_BREAKDOWN_H_

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace titan {

enum class KernelKind { kGemm, kAttention, kCommunication, kMemoryCopy, kOptimizer, kOther };
const char* NameOf(KernelKind kind);

// By the words in a kernel's name: NCCL's, those of cuBLAS and CUTLASS, those of attention's libraries, those of
// optimizers.
KernelKind KindOfKernel(std::string_view name);

// All in seconds of one GPU.
struct TraceBreakdown {
  double span = 0;                       // from the beginning of the first kernel to the end of the last
  double compute = 0;                    // some kernel ran that is not communication
  double communication = 0;              // some communication ran, waiting for other ranks included
  double hidden = 0;                     // both: communication that cost no time
  double idle = 0;                       // nothing ran
  std::map<KernelKind, double> by_kind;  // sums of durations

  double exposed() const { return communication - hidden; }
  double hidden_share() const { return communication > 0 ? hidden / communication : 0; }
};

// InvalidArgument if `trace` is not a trace, or has no kernel of a GPU in it.
absl::StatusOr<TraceBreakdown> BreakDownTrace(std::string_view trace);

// The newest trace of rank 0 below the folder that the profiler writes to; empty if there is none.
std::string NewestTrace(const std::string& traces_folder);

// Lines of text, in milliseconds and shares of the span.
std::string FormatBreakdown(const TraceBreakdown& breakdown);

}  // namespace titan

#endif  // TITAN_METRICS_TRACE_BREAKDOWN_H_
