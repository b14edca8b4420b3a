// A part of report.html: where the time of the newest traced step went (profiling.enable_profiling).

#ifndef TITAN_METRICS_PROFILE_PANEL_H_
#define TITAN_METRICS_PROFILE_PANEL_H_

#include <string>

namespace titan {

// HTML: what rank 0's GPU did, by kind of kernel, with what communication nothing hides and what is idle; or why the
// trace does not tell. Empty where there is no trace.
std::string ProfilePanel(const std::string& traces_folder);

}  // namespace titan

#endif  // TITAN_METRICS_PROFILE_PANEL_H_
