#include "titan/parallel/transport_progress.h"

#include <algorithm>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace titan {
namespace {

constexpr char kSilent[] = "does not answer: stopped, hung, or cut off";

// What `report` of another rank says of it; empty if it has arrived.
std::string WhyMissing(const std::string& report, const Operation& operation, bool awaited) {
  if (report == "left") return "has left";
  std::istringstream in(report);
  int64_t collectives = 0, sequence = 0;
  std::string kind;
  in >> collectives >> sequence >> kind;
  const bool arrived = operation.collective > 0 ? collectives >= operation.collective : !awaited;
  if (arrived) return "";
  if (sequence == 0) return "has not begun anything in this group";
  return absl::StrCat("got to ", kind, " #", sequence);
}

}  // namespace

Operation ProgressTable::Begin(const std::string& group, const char* kind, bool is_collective,
                               std::chrono::milliseconds limit) {
  std::lock_guard<std::mutex> lock(mutex_);
  Progress& progress = groups_[group];
  ++progress.operations;
  if (is_collective) ++progress.collectives;
  progress.kind = kind;
  return {kind, progress.operations, is_collective ? progress.collectives : 0, limit};
}

std::string ProgressTable::Report(const std::string& group) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = groups_.find(group);
  const Progress progress = found == groups_.end() ? Progress() : found->second;
  return absl::StrCat(progress.collectives, " ", progress.operations, " ", progress.kind);
}

std::string Describe(const Operation& operation, const std::string& group, const std::vector<int64_t>& ranks,
                     int64_t rank) {
  return absl::StrCat(operation.kind, " #", operation.sequence, " of group ", group, " (ranks ",
                      absl::StrJoin(ranks, ", "), ") on rank ", rank);
}

std::string DescribeTimeout(StoreClient& store, const Operation& operation, const std::string& group,
                            const std::vector<int64_t>& ranks, int64_t rank, const std::vector<int64_t>& awaited) {
  const std::map<int64_t, std::string> reports = store.AskAll(group);
  std::vector<std::string> missing;
  if (reports.empty()) missing.push_back(absl::StrCat("rank 0 (", kSilent, ")"));
  for (const int64_t member : ranks) {
    if (member == rank || reports.empty()) continue;
    const auto report = reports.find(member);
    const bool is_awaited = std::find(awaited.begin(), awaited.end(), member) != awaited.end();
    const std::string why = report == reports.end() ? kSilent : WhyMissing(report->second, operation, is_awaited);
    if (!why.empty()) missing.push_back(absl::StrCat("rank ", member, " (", why, ")"));
  }
  std::string text = absl::StrCat(Describe(operation, group, ranks, rank), " did not finish within ",
                                  static_cast<double>(operation.limit.count()) / 1000, " s. ");
  if (missing.empty() || reports.empty()) {
    absl::StrAppend(&text, "Messages are outstanding of: ranks ", absl::StrJoin(awaited, ", "), ". ");
  }
  absl::StrAppend(&text, missing.empty() ? "All ranks had arrived." : "Did not arrive: ", absl::StrJoin(missing, ", "));
  return text;
}

}  // namespace titan
