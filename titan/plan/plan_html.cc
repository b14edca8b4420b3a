#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/base/html.h"
#include "titan/base/quantities.h"
#include "titan/plan/plan.h"
#include "titan/plan/plan_tables.h"

namespace titan {
namespace {

std::string Cards(const plan::Plan& plan) {
  const plan::Batch& batch = plan.batch();
  const plan::Compute& compute = plan.compute();
  const plan::Memory& memory = plan.memory();
  std::vector<HtmlCard> cards = {
      {"parameters", FormatShortCount(plan.model().parameters()), FormatCount(plan.model().parameters())},
      {"ranks", FormatCount(plan.mesh().world_size()),
       absl::StrCat(plan.cluster().num_nodes(), " x ", plan.cluster().devices_per_node(), " ",
                    plan.cluster().accelerator())},
      {"tokens a step", FormatCount(batch.tokens_per_step()),
       absl::StrCat(FormatShortCount(batch.total_tokens()), " in ", FormatCount(batch.steps()), " steps")},
      {"work", absl::StrCat(FormatScaled(compute.total_flops()), "FLOP"),
       absl::StrCat(FormatScaled(compute.flops_per_token()), "FLOP a token")},
      {"memory of a rank", FormatBytes(memory.required_bytes()),
       memory.has_left_bytes() ? absl::StrCat("of ", FormatBytes(plan.cluster().memory_bytes()), ", before activations")
                               : "before activations"}};
  if (compute.has_min_total_seconds()) {
    cards.push_back({"time at peak", FormatDuration(compute.min_total_seconds()),
                     absl::StrCat(FormatDuration(compute.min_seconds_per_step()), " a step at least")});
  }
  return HtmlCards(cards);
}

struct Segment {
  const char* label;
  const char* color;
  int64_t bytes;
};

// The memory of a device as one stacked bar with a legend.
std::string MemoryBar(const plan::Plan& plan) {
  const plan::Memory& memory = plan.memory();
  const bool is_here = !memory.offloaded();
  const std::vector<Segment> segments = {
      {"weights", "var(--accent)", is_here ? memory.rank().weights() : 0},
      {"gradients", "var(--second)", is_here ? memory.rank().gradients() : 0},
      {"optimizer state", "var(--third)", is_here ? memory.rank().optimizer_state() : 0},
      {"largest gathered unit", "var(--fourth)", memory.rank().gathered_weights()},
      {"left for activations", "var(--line)", memory.left_bytes()},
  };
  const double all = static_cast<double>(memory.required_bytes() + memory.left_bytes());
  constexpr double kWidth = 1000;
  std::string bar = "<svg viewBox=\"0 0 1000 34\" role=\"img\" aria-label=\"memory of a rank\">";
  std::string legend = "<p class=\"note\">";
  double x = 0;
  for (const Segment& segment : segments) {
    if (segment.bytes == 0) continue;
    const double width = kWidth * static_cast<double>(segment.bytes) / all;
    absl::StrAppendFormat(&bar,
                          "<rect x=\"%.2f\" y=\"0\" width=\"%.2f\" height=\"34\" style=\"fill:%s\"><title>%s: %s"
                          "</title></rect>",
                          x, width, segment.color, segment.label, FormatBytes(segment.bytes));
    absl::StrAppendFormat(&legend,
                          "<span style=\"display:inline-block;width:10px;height:10px;border-radius:3px;background:%s\">"
                          "</span> %s %s &nbsp; ",
                          segment.color, segment.label, FormatBytes(segment.bytes));
    x += width;
  }
  return absl::StrCat("<div class=\"panel\">", bar, "</svg>", legend, "</p></div>\n");
}

std::string BytesCells(const plan::Bytes& bytes) {
  std::string cells;
  for (const int64_t value :
       {bytes.weights(), bytes.gradients(), bytes.optimizer_state(), bytes.states(), bytes.gathered_weights()}) {
    absl::StrAppend(&cells, "<td>", FormatBytes(value), "</td>");
  }
  return cells;
}

std::string BlockTable(const plan::Plan& plan) {
  std::string html =
      "<div class=\"panel\"><table>\n<tr><th>block</th><th>parameters</th><th>on a rank</th><th>weights</th>"
      "<th>gradients</th><th>optimizer</th><th>states</th><th>gathered</th></tr>\n";
  int64_t parameters_per_rank = 0;
  for (const BlockGroup& group : GroupBlocks(plan)) {
    absl::StrAppend(&html, "<tr><td>", EscapeHtml(group.name), "</td><td>", FormatCount(group.block->parameters()),
                    "</td><td>", FormatCount(group.block->parameters_per_rank()), "</td>",
                    BytesCells(group.block->rank()), "</tr>\n");
    parameters_per_rank += group.count * group.block->parameters_per_rank();
  }
  absl::StrAppend(&html, "<tr class=\"total\"><td>total</td><td>", FormatCount(plan.model().parameters()), "</td><td>",
                  FormatCount(parameters_per_rank), "</td>", BytesCells(plan.memory().rank()),
                  "</tr>\n</table></div>\n");
  return html;
}

std::string FactTable(const std::vector<PlanFact>& facts) {
  std::vector<HtmlSetting> settings;
  for (const PlanFact& fact : facts) settings.push_back({fact.name, fact.value});
  return absl::StrCat("<div class=\"panel\">", HtmlSettings(settings), "</div>\n");
}

}  // namespace

std::string PlanHtml(const plan::Plan& plan) {
  std::string body = absl::StrCat(Cards(plan), "<h2>Layout</h2>\n", FactTable(PlanFacts(plan)),
                                  "<h2>Memory of the rank that holds most</h2>\n", MemoryBar(plan));
  if (plan.memory().has_host()) {
    absl::StrAppend(&body, "<h2>Memory of the host</h2>\n", FactTable(HostMemorySum(plan)));
  }
  absl::StrAppend(&body, "<h2>Blocks</h2>\n", BlockTable(plan));
  for (const std::string& note : plan.notes()) absl::StrAppend(&body, "<p class=\"note\">", EscapeHtml(note), "</p>\n");
  return HtmlPage(absl::StrCat("Plan of ", plan.name()), PlanSubtitle(plan), body);
}

}  // namespace titan
