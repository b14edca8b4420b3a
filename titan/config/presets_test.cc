// experiments/lib agrees with experiment.proto: its schema is generated from it, and the strict reader takes every
// preset.

#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/config/schema_jsonnet.h"

namespace titan {
namespace {

TEST(Schema, IsUpToDate) {
  const auto text = ReadFile("experiments/lib/schema.libsonnet");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, SchemaJsonnet()) << "experiment.proto has changed: run the command at the top of schema.libsonnet";
}

TEST(Presets, AreAllValid) {
  const auto text = ReadFile("experiments/lib/presets_test.json");
  ASSERT_TRUE(text.ok()) << text.status();
  const auto presets = nlohmann::json::parse(*text);
  EXPECT_GE(presets.size(), 11u);
  for (auto preset = presets.begin(); preset != presets.end(); ++preset) {
    const auto experiment = ReadExperiment(preset.value().dump(), {.source_name = preset.key()});
    EXPECT_TRUE(experiment.ok()) << experiment.status().message();
  }
}

TEST(Presets, HaveTheShapesOfTorchtitan) {
  const auto presets = nlohmann::json::parse(*ReadFile("experiments/lib/presets_test.json"));
  const auto debug = ReadExperiment(presets.at("llama3 debugmodel").dump());
  ASSERT_TRUE(debug.ok()) << debug.status();
  EXPECT_EQ(debug->model().head_dim(), 16);
  const auto large = ReadExperiment(presets.at("llama3 405B").dump());
  ASSERT_TRUE(large.ok()) << large.status();
  EXPECT_EQ(large->model().n_layers(), 126);
  EXPECT_EQ(large->model().ffn_hidden_dim(), 53248);
  EXPECT_EQ(large->optimizer().lr(), 8e-5);
}

}  // namespace
}  // namespace titan
