#include "titan/data/bpe_trainer.h"

#include <gtest/gtest.h>

#include "titan/data/tokenizer.h"

namespace titan {
namespace {

constexpr int64_t kFixed = 256 + BpeTrainer::kSpecialTokens;

TEST(BpeTrainer, JoinsTheMostFrequentPairs) {
  BpeTrainer trainer;
  // Words: "ab" 5 times, " ab" 4 times, "ba" twice, " ba" once.
  ASSERT_TRUE(trainer.Add("ab ab ab ab ab").ok());
  for (const char* text : {"ab", "ab", "ab", "ab", "ba", "ba ba"}) ASSERT_TRUE(trainer.Add(text).ok());
  // a+b (9), then " "+ab (4), then b+a (3), then none occurs twice.
  const auto json = trainer.Train(kFixed + 3);
  ASSERT_TRUE(json.ok()) << json.status();
  const auto tokenizer = Tokenizer::Parse(*json);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(*(*tokenizer)->Encode("ab ab ba", true), (std::vector<int64_t>{259, 256, 257, 220, 258}));
  EXPECT_EQ((*tokenizer)->vocab_size(), kFixed + 3);
  EXPECT_EQ((*tokenizer)->bos_id(), 259);
  EXPECT_EQ((*tokenizer)->eos_id(), 260);
  EXPECT_EQ((*tokenizer)->Decode({259, 256, 257, 220, 258}, true), "ab ab ba");
}

TEST(BpeTrainer, BreaksTiesByBytesAndNotByTheOrderOfTexts) {
  BpeTrainer forward;
  BpeTrainer backward;
  for (const char* text : {"xy", "xy", "cd", "cd", "\xC3\xA9", "\xC3\xA9"}) ASSERT_TRUE(forward.Add(text).ok());
  for (const char* text : {"\xC3\xA9", "\xC3\xA9", "cd", "cd", "xy", "xy"}) ASSERT_TRUE(backward.Add(text).ok());
  const auto json = forward.Train(kFixed + 3);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*json, *backward.Train(kFixed + 3));
  const auto tokenizer = Tokenizer::Parse(*json);
  EXPECT_EQ(*(*tokenizer)->Encode("cd", false), std::vector<int64_t>{256});
  EXPECT_EQ(*(*tokenizer)->Encode("xy", false), std::vector<int64_t>{257});
  EXPECT_EQ(*(*tokenizer)->Encode("\xC3\xA9", false), std::vector<int64_t>{258});
}

TEST(BpeTrainer, SaysWhenTheTextIsTooShort) {
  BpeTrainer trainer;
  ASSERT_TRUE(trainer.Add("abcabc ab").ok());
  EXPECT_EQ(trainer.Train(300).status().message(),
            "the text is too short: it gives 2 merges, and a vocabulary of 300 needs 28");
  EXPECT_FALSE(trainer.Train(kFixed - 1).ok());
  EXPECT_FALSE(trainer.Add("\xFF").ok());
}

}  // namespace
}  // namespace titan
