#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/base/quantities.h"
#include "titan/plan/plan.h"
#include "titan/plan/plan_tables.h"

namespace titan {
namespace {

using Row = std::vector<std::string>;

// Columns as wide as their widest cell; the first one aligned left, the others right.
std::string Table(const std::vector<Row>& rows) {
  std::vector<int> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], static_cast<int>(row[i].size()));
  }
  std::string text;
  for (const Row& row : rows) {
    absl::StrAppendFormat(&text, "  %-*s", widths[0], row[0]);
    for (size_t i = 1; i < row.size(); ++i) absl::StrAppendFormat(&text, "  %*s", widths[i], row[i]);
    text += '\n';
  }
  return text;
}

Row BytesRow(std::string name, int64_t parameters, int64_t parameters_per_rank, const plan::Bytes& rank) {
  return {std::move(name),
          FormatCount(parameters),
          FormatCount(parameters_per_rank),
          FormatBytes(rank.weights()),
          FormatBytes(rank.gradients()),
          FormatBytes(rank.optimizer_state()),
          FormatBytes(rank.states()),
          FormatBytes(rank.gathered_weights())};
}

std::string BlockTable(const plan::Plan& plan) {
  std::vector<Row> rows = {
      {"block", "parameters", "on a rank", "weights", "gradients", "optimizer", "states", "gathered"}};
  int64_t parameters_per_rank = 0;
  for (const BlockGroup& group : GroupBlocks(plan)) {
    rows.push_back(
        BytesRow(group.name, group.block->parameters(), group.block->parameters_per_rank(), group.block->rank()));
    parameters_per_rank += group.count * group.block->parameters_per_rank();
  }
  rows.push_back(BytesRow("total", plan.model().parameters(), parameters_per_rank, plan.memory().rank()));
  return Table(rows);
}

}  // namespace

std::string PlanText(const plan::Plan& plan) {
  std::string text = absl::StrCat("Plan of ", plan.name(), "\n", PlanSubtitle(plan), "\n\n");
  for (const PlanFact& fact : PlanFacts(plan)) absl::StrAppendFormat(&text, "%-9s %s\n", fact.name, fact.value);
  absl::StrAppend(&text, "\nOn the rank that holds most\n", BlockTable(plan), "\nMemory of that rank\n");
  const auto table = [](const std::vector<PlanFact>& lines) {
    std::vector<Row> rows;
    for (const PlanFact& line : lines) rows.push_back({line.name, line.value});
    return Table(rows);
  };
  absl::StrAppend(&text, table(MemorySum(plan)), "\n");
  if (plan.memory().has_host()) absl::StrAppend(&text, "Memory of the host\n", table(HostMemorySum(plan)), "\n");
  for (const std::string& note : plan.notes()) absl::StrAppend(&text, note, "\n");
  return text;
}

}  // namespace titan
