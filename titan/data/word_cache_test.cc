#include "titan/data/word_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <thread>
#include <vector>

namespace titan {
namespace {

// Ids that tell words apart: their bytes, and a sum of these.
void Encode(std::string_view word, std::vector<int64_t>* ids) {
  int64_t sum = 0;
  for (const char c : word) {
    ids->push_back(static_cast<unsigned char>(c));
    sum = (sum * 31 + static_cast<unsigned char>(c)) % (1 << 24);
  }
  ids->push_back(sum);
}

std::vector<int64_t> Encoded(absl::Span<const std::string_view> words) {
  std::vector<int64_t> ids;
  for (const std::string_view word : words) Encode(word, &ids);
  return ids;
}

std::string RandomWord(size_t length, std::mt19937* random) {
  std::string word;
  while (word.size() < length) word.push_back(static_cast<char>((*random)()));
  return word;
}

TEST(WordCache, GivesTheIdsOfTheFirstTime) {
  std::mt19937 random(1);
  std::vector<std::string> words;
  for (size_t length = 1; length <= 200; ++length) words.push_back(RandomWord(length, &random));
  const std::vector<std::string_view> views(words.begin(), words.end());
  WordCache cache;
  std::vector<int64_t> ids = {7};
  std::vector<int64_t> expected = {7};
  size_t calls = 0;
  const auto count = [&](std::string_view word, std::vector<int64_t>* ids) {
    ++calls;
    Encode(word, ids);
  };
  for (int pass = 0; pass < 3; ++pass) {
    cache.Append(views, count, &ids);
    for (const int64_t id : Encoded(views)) expected.push_back(id);
    EXPECT_EQ(ids, expected);
  }
  EXPECT_EQ(calls, 200 + 2 * 72) << "words above 128 bytes are not cached";
}

TEST(WordCache, TellsWordsInOneBatchApart) {
  WordCache cache;
  const std::vector<std::string_view> words = {"a", "b", "a", "ab", "a", "ba", std::string_view("\0", 1)};
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<int64_t> ids;
    cache.Append(words, Encode, &ids);
    EXPECT_EQ(ids, Encoded(words));
  }
}

// More words than it takes, and more bytes: it goes on giving the right ids, and forgets nothing.
TEST(WordCache, StaysAsItIsWhenItIsFull) {
  constexpr int kWords = 300000;
  WordCache cache;
  const auto append = [&cache](int number, size_t* calls) {
    const std::string word = std::to_string(number);
    std::vector<int64_t> ids;
    const auto count = [calls](std::string_view word, std::vector<int64_t>* ids) {
      ++*calls;
      Encode(word, ids);
    };
    cache.Append({word}, count, &ids);
    return ids == Encoded({word});
  };
  size_t calls = 0;
  for (int i = 0; i < kWords; ++i) ASSERT_TRUE(append(i, &calls)) << i;
  EXPECT_EQ(calls, kWords);
  calls = 0;
  for (int i = 0; i < kWords; ++i) ASSERT_TRUE(append(i, &calls)) << i;
  EXPECT_GE(calls, kWords - (1 << 18));
  EXPECT_LT(calls, kWords - (1 << 18) + 100) << "few are left out before it is full";
}

TEST(WordCache, ThreadsGetTheRightIds) {
  WordCache cache;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&cache, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 5000; ++i) {
        std::vector<std::string> words;
        for (int k = 0; k < 20; ++k) words.push_back(std::to_string(random() % 20000));
        const std::vector<std::string_view> views(words.begin(), words.end());
        std::vector<int64_t> ids;
        cache.Append(views, Encode, &ids);
        ASSERT_EQ(ids, Encoded(views));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace titan
