// torch's CSV form of a schedule.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "titan/base/status_macros.h"
#include "titan/plan/pipeline_schedule.h"

namespace titan {
namespace {

std::optional<PipelineOp> OpOf(char letter) {
  switch (letter) {
    case 'F':
      return PipelineOp::kForward;
    case 'B':
      return PipelineOp::kBackward;
    case 'I':
      return PipelineOp::kBackwardInput;
    case 'W':
      return PipelineOp::kBackwardWeight;
    default:
      return std::nullopt;
  }
}

// Digits alone: SimpleAtoi would take signs and spaces, too.
bool ParseIndex(std::string_view digits, int64_t* index) {
  return !digits.empty() && digits.find_first_not_of("0123456789") == std::string_view::npos &&
         absl::SimpleAtoi(digits, index);
}

// Without line and cell in the error.
absl::StatusOr<PipelineAction> ParseAction(std::string_view text, const PipelineSchedule& schedule) {
  const size_t letter = text.find_first_not_of("0123456789");
  PipelineAction action;
  const std::optional<PipelineOp> op = letter == std::string_view::npos ? std::nullopt : OpOf(text[letter]);
  if (!op || !ParseIndex(text.substr(0, letter), &action.stage) ||
      !ParseIndex(text.substr(letter + 1), &action.microbatch)) {
    return absl::InvalidArgumentError(
        "not an action; write stage, letter and microbatch, such as 0F1, with F forward, B backward, I its input "
        "gradients alone or W its weight gradients alone. Messages (SEND, RECV) are implied and cannot be given");
  }
  if (action.stage >= schedule.num_stages) {
    return absl::InvalidArgumentError(absl::StrCat("stage ", action.stage, " does not exist; there are ",
                                                   schedule.num_stages, " stages, 0 to ", schedule.num_stages - 1));
  }
  if (action.microbatch >= schedule.num_microbatches) {
    return absl::InvalidArgumentError(absl::StrCat("microbatch ", action.microbatch, " does not exist; there are ",
                                                   schedule.num_microbatches, ", 0 to ",
                                                   schedule.num_microbatches - 1));
  }
  action.op = *op;
  return action;
}

// The actions of a cell: one, or the two of torch's "(0F1;3B0)OVERLAP_F_B", which run one behind the other here.
std::vector<std::string_view> ActionsIn(std::string_view cell) {
  if (cell.empty()) return {};
  std::string_view pair = cell;
  if (!absl::ConsumePrefix(&pair, "(") || !absl::ConsumeSuffix(&pair, ")OVERLAP_F_B")) return {cell};
  return absl::StrSplit(pair, ';');
}

absl::Status AddLine(std::string_view line, int64_t rank, PipelineSchedule& schedule) {
  int64_t column = 0;
  for (std::string_view cell : absl::StrSplit(line, ',')) {
    ++column;
    for (const std::string_view text : ActionsIn(absl::StripAsciiWhitespace(cell))) {
      const auto refuse = [&](std::string_view problem) {
        return absl::InvalidArgumentError(
            absl::StrCat("pipeline schedule CSV, line ", rank + 1, ", cell ", column, ": \"", text, "\": ", problem));
      };
      const absl::StatusOr<PipelineAction> action = ParseAction(text, schedule);
      if (!action.ok()) return refuse(action.status().message());
      int64_t& owner = schedule.rank_of_stage[action->stage];
      if (owner >= 0 && owner != rank) {
        return refuse(absl::StrCat("stage ", action->stage, " is already on line ", owner + 1,
                                   "; all actions of a stage belong on the line of one rank"));
      }
      owner = rank;
      schedule.actions[rank].push_back(*action);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PipelineSchedule> ParsePipelineScheduleCsv(std::string_view text, int64_t ranks, int64_t stages,
                                                          int64_t microbatches) {
  const auto refuse = [](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat("pipeline schedule CSV: ", what...));
  };
  if (ranks < 1 || stages < 1 || microbatches < 1) {
    return refuse("needs at least 1 rank, 1 stage and 1 microbatch, not ", ranks, ", ", stages, " and ", microbatches);
  }
  PipelineSchedule schedule;
  schedule.name = "CSV";
  schedule.num_ranks = ranks;
  schedule.num_stages = stages;
  schedule.num_microbatches = microbatches;
  schedule.rank_of_stage.assign(stages, -1);
  schedule.actions.resize(ranks);

  const std::vector<std::string_view> lines = absl::StrSplit(absl::StripTrailingAsciiWhitespace(text), '\n');
  if (static_cast<int64_t>(lines.size()) != ranks) {
    return refuse("has ", lines.size(), " lines for ", ranks,
                  " ranks; write one line per rank of parallelism.pipeline_parallel_degree");
  }
  for (int64_t rank = 0; rank < ranks; ++rank) TITAN_RETURN_IF_ERROR(AddLine(lines[rank], rank, schedule));
  for (int64_t stage = 0; stage < stages; ++stage) {
    if (schedule.rank_of_stage[stage] < 0) {
      return refuse("stage ", stage, " of ", stages, " is on no line; each stage must run on one rank");
    }
  }
  return schedule;
}

std::string ToCsv(const PipelineSchedule& schedule) {
  std::string text;
  for (const std::vector<PipelineAction>& actions : schedule.actions) {
    absl::StrAppend(&text,
                    absl::StrJoin(actions, ",", [](std::string* out, const PipelineAction& a) { *out += ToString(a); }),
                    "\n");
  }
  return text;
}

}  // namespace titan
