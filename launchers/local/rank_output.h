// What one rank prints: all of it goes to its log, and to the terminal what a person wants to see there.
//
//   TITAN_ASSIGN_OR_RETURN(RankOutput output, RankOutput::Open(3, "runs/1/logs/rank-3.log",
//   RankOutput::Show::kErrors)); output.Take(STDERR_FILENO, bytes);   // whole lines appear as "[rank 3] line"
//   output.Finish();

#ifndef TITAN_LAUNCHERS_LOCAL_RANK_OUTPUT_H_
#define TITAN_LAUNCHERS_LOCAL_RANK_OUTPUT_H_

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace titan {

class RankOutput {
 public:
  enum class Show {
    kAsItIs,  // byte by byte, as if there were no supervisor
    kLines,   // whole lines with the rank's name before them
    kErrors,  // of those, what is written to standard error
  };

  // Appends to `log`; the log has whole lines without escape sequences.
  static absl::StatusOr<RankOutput> Open(int64_t rank, const std::string& log, Show show);

  RankOutput(RankOutput&& other) noexcept;
  RankOutput& operator=(RankOutput&& other) = delete;
  ~RankOutput();

  // `stream` is STDOUT_FILENO or STDERR_FILENO: where the rank wrote `bytes`, and where they are shown.
  void Take(int stream, std::string_view bytes);
  // Takes what is left of lines without an end.
  void Finish();

  const std::string& log() const { return log_; }
  // The last few lines, the newest last.
  const std::deque<std::string>& last_lines() const { return last_lines_; }

 private:
  RankOutput(int64_t rank, std::string log, int log_descriptor, Show show);
  void TakeLine(int stream, std::string line);

  int64_t rank_;
  std::string log_;
  int log_descriptor_;  // -1: moved from
  Show show_;
  std::array<std::string, 2> unfinished_;  // lines of standard output and standard error
  std::deque<std::string> last_lines_;
};

// `line` as a log holds it: without escape sequences, and of what a carriage return overwrites only the last.
std::string PlainLine(std::string_view line);

}  // namespace titan

#endif  // TITAN_LAUNCHERS_LOCAL_RANK_OUTPUT_H_
