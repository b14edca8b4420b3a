#include "titan/config/schema.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(UnknownFieldHint, LooksInOtherGroupsAndElseListsThisOne) {
  const auto& root = *config::Experiment::descriptor();
  const auto& training = *config::Training::descriptor();
  EXPECT_EQ(UnknownFieldHint("stpes", training, root), "; did you mean steps?");
  EXPECT_EQ(UnknownFieldHint("warmup_steps", training, root), "; did you mean lr_scheduler.warmup_steps?");
  EXPECT_THAT(UnknownFieldHint("zzzzzz", training, root), HasSubstr("; known fields: local_batch_size, "));
}

TEST(ValueNames, AreWhatAConfigurationCanWrite) {
  const auto& modes = *config::ActivationCheckpoint::Mode_descriptor();
  EXPECT_THAT(ValueNames(modes, false), ElementsAre("none", "full", "selective"));
  EXPECT_THAT(ValueNames(modes, true), ElementsAre("none", "full", "selective", "memory_budget"));
}

// Every field must have what the reader relies on.
void CheckDeclarations(const google::protobuf::Descriptor& type) {
  for (int i = 0; i < type.field_count(); ++i) {
    const auto& field = *type.field(i);
    const config::FieldRule& rule = RuleOf(field);
    EXPECT_FALSE(rule.required() && field.has_default_value()) << field.full_name();
    EXPECT_FALSE(rule.required() && rule.not_supported_yet()) << field.full_name() << " could never be right";
    EXPECT_FALSE(rule.has_min() && rule.has_max() && rule.min() > rule.max()) << field.full_name();
    if (field.enum_type() != nullptr && field.has_default_value()) {
      EXPECT_TRUE(IsSupported(*field.default_value_enum())) << field.full_name();
      EXPECT_FALSE(ConfigName(*field.default_value_enum()).empty()) << field.full_name();
    }
    if (field.message_type() != nullptr) CheckDeclarations(*field.message_type());
  }
}

TEST(Schema, DeclaresRulesThatMakeSense) { CheckDeclarations(*config::Experiment::descriptor()); }

}  // namespace
}  // namespace titan
