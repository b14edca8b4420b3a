#include "titan/config/json_value.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

TEST(ParseJsonValue, KeepsWhatOtherParsersThrowAway) {
  const auto root = ParseJsonValue(R"({"b": 1e3, "a": -7, "b": [true, null, "x"], "c": 8.0})");
  ASSERT_TRUE(root.ok()) << root.status();
  ASSERT_EQ(root->members.size(), 4u);
  EXPECT_EQ(root->members[0].first, "b");
  EXPECT_EQ(root->members[0].second.literal, "1e3");
  EXPECT_FALSE(root->members[0].second.IsIntegerLiteral());
  EXPECT_TRUE(root->members[1].second.IsIntegerLiteral());
  EXPECT_EQ(root->members[2].second.elements.size(), 3u);
  EXPECT_FALSE(root->members[3].second.IsIntegerLiteral());
}

TEST(ParseJsonValue, FindGivesTheLastOfDuplicates) {
  auto root = ParseJsonValue(R"({"a": 1, "a": 2})");
  ASSERT_TRUE(root.ok());
  EXPECT_EQ(root->Find("a")->literal, "2");
  EXPECT_EQ(root->Find("b"), nullptr);
}

TEST(ParseJsonValue, SaysWhereTheTextIsNotJson) {
  EXPECT_THAT(ParseJsonValue("{\n  \"a\": 1,\n}").status().message(),
              HasSubstr("not JSON: line 3, column 1: syntax error"));
  EXPECT_THAT(ParseJsonValue("{\"a\": NaN}").status().message(), HasSubstr("line 1, column 7"));
  EXPECT_THAT(ParseJsonValue("{\n\"a\": 1e999}").status().message(), HasSubstr("line 2, column 10: number overflow"));
  EXPECT_THAT(ParseJsonValue("{} {}").status().message(), HasSubstr("line 1, column 4"));
}

TEST(ParseJsonValue, RefusesDeepNesting) {
  EXPECT_TRUE(ParseJsonValue(std::string(64, '[') + std::string(64, ']')).ok());
  EXPECT_THAT(ParseJsonValue(std::string(65, '[') + std::string(65, ']')).status().message(), HasSubstr("64 levels"));
  EXPECT_FALSE(ParseJsonValue(std::string(1000000, '[')).ok());
}

TEST(ShortText, FitsOnALine) {
  JsonValue text;
  text.kind = JsonValue::Kind::kString;
  text.literal = "a\n\"b\"";
  EXPECT_EQ(ShortText(text), R"("a\n\"b\"")");
  text.literal = std::string(59, 'x') + "\xc3\xa9 and more";  // Cut in the middle of a character.
  EXPECT_LT(ShortText(text).size(), 80u);
  EXPECT_THAT(ShortText(text), HasSubstr("...\""));
  EXPECT_EQ(ShortText(*ParseJsonValue("0.10000000000000001")), "0.1");
  EXPECT_EQ(ShortText(*ParseJsonValue("[1]")), "[...]");
}

}  // namespace
}  // namespace titan
