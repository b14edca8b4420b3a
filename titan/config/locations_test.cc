#include "titan/config/locations.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Keys(std::string_view text) {
  std::vector<std::string> keys;
  for (const JsonnetKey& key : FindKeys(text)) {
    keys.push_back(absl::StrCat(absl::StrJoin(key.path, "."), "@", key.line));
  }
  return keys;
}

TEST(FindKeys, FollowsNestingAndLists) {
  EXPECT_THAT(Keys("{\n a: { b+: 1,\n 'c'::: [ {d: 1}, {\"d\":\n 2} ] },\n}"),
              ElementsAre("a@2", "a.b@2", "a.c@3", "a.c.0.d@3", "a.c.1.d@3"));
}

TEST(FindKeys, SkipsWhatIsNoField) {
  EXPECT_THAT(Keys(R"(// a: 1
# b: 2
/* c: 3
 */ { local d = 4, assert e : 'f: 5', g(x): 6, h: if i then { j: 7 } else 'k: "8"', l: @'m'' n: 9', o: |||
    p: 10
  |||, [q]: { r: 11 }, s: x[1:2] })"),
              ElementsAre("h@4", "h.j@4", "l@4", "o@4", "?.r@6", "s@6"));
}

TEST(FindKeys, LooksThroughCalls) {
  EXPECT_THAT(Keys("strict(base, { optimizer: f({ lr: 1 }, 2), x: 3 })"),
              ElementsAre("optimizer@1", "optimizer.lr@1", "x@1"));
}

TEST(FindKeys, NeverFails) {
  const std::string alphabet = "{}[]():,+|'\"@\\/*#ab \n=";
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += alphabet[random() % alphabet.size()];
    FindKeys(text);
  }
}

TEST(FindInJsonnet, PrefersTheMainFileAndSaysNothingWhenAmbiguous) {
  const std::map<std::string, std::string> sources = {
      {"main.jsonnet", "base + {\n optimizer+: { lr: 1 },\n training: { a: 1 } + { a: 2 },\n}"},
      {"lib.libsonnet", "{\n\n optimizer: { lr: 2, eps: 3 } }"},
  };
  const auto at = [&](std::string_view path) {
    const auto found = FindInJsonnet(sources, "main.jsonnet", path);
    return found ? absl::StrCat(found->file, ":", found->line) : "";
  };
  EXPECT_EQ(at("optimizer.lr"), "main.jsonnet:2");
  EXPECT_EQ(at("optimizer.eps"), "lib.libsonnet:3");
  EXPECT_EQ(at("optimizer.missing"), "main.jsonnet:2");  // its group
  EXPECT_EQ(at("training.a"), "");
  EXPECT_EQ(at("nowhere"), "");
  EXPECT_EQ(at(""), "");
}

TEST(FindInJsonnet, TakesTheEndOfAPath) {
  const std::map<std::string, std::string> sources = {{"m", "local o = {\n lr: 1 };\n{ optimizer: o }"}};
  EXPECT_EQ(FindInJsonnet(sources, "m", "optimizer.lr")->line, 2);
}

}  // namespace
}  // namespace titan
