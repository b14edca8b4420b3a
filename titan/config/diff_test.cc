#include "titan/config/diff.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

config::Experiment Read(const std::vector<std::string>& overrides) {
  const auto experiment = ReadExperiment(R"({
    "model": {"name": "llama3", "dim": 256, "n_layers": 6, "n_heads": 16, "ffn_hidden_dim": 768, "vocab_size": 2048},
    "data": {"sources": [{"corpus": "docs"}]},
    "training": {"steps": 300}
  })",
                                         {.overrides = overrides});
  EXPECT_TRUE(experiment.ok()) << experiment.status();
  return *experiment;
}

std::vector<std::string> Lines(const config::Experiment& left, const config::Experiment& right) {
  std::vector<std::string> lines;
  for (const FieldDifference& field : Diff(left, right)) {
    lines.push_back(absl::StrCat(field.path, ": ", field.left, " -> ", field.right));
  }
  return lines;
}

TEST(Diff, IsEmptyForEqualExperiments) { EXPECT_THAT(Lines(Read({}), Read({"optimizer.beta1=0.9"})), IsEmpty()); }

TEST(Diff, NamesFieldsInTheOrderOfTheSchema) {
  EXPECT_THAT(Lines(Read({}), Read({"optimizer.lr=1e-3", "training.steps=400", "lr_scheduler.decay_ratio=0.5"})),
              ElementsAre("training.steps: 300 -> 400", "optimizer.lr: 8e-4 -> 0.001",
                          "lr_scheduler.decay_ratio: unset -> 0.5", "lr_scheduler.total_steps: 300 -> 400"));
}

TEST(Diff, GoesIntoLists) {
  const auto two = Read({R"(data.sources=[{"corpus": "docs"}, {"corpus": "more", "format": "jsonl"}])"});
  EXPECT_THAT(
      Lines(two, Read({})),
      ElementsAre("data.sources.1.corpus: \"more\" -> unset", "data.sources.1.format: \"jsonl\" -> unset",
                  "data.sources.1.text_field: \"text\" -> unset", "data.sources.1.weight: 1 -> unset",
                  "data.sources.1.validation_split: 0 -> unset", "data.sources.1.validation_documents: 0 -> unset"));
  EXPECT_EQ(Lines(Read({}), two).size(), 6u);
}

}  // namespace
}  // namespace titan
