#include "titan/data/unicode.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace titan {
namespace {

struct Forms {
  const char* text;
  const char* nfc;
  const char* nfd;
  const char* nfkc;
  const char* nfkd;
};

void ExpectForms(const Forms& expected) {
  EXPECT_EQ(NormalizeUnicode(expected.text, UnicodeForm::kNfc), expected.nfc) << expected.text;
  EXPECT_EQ(NormalizeUnicode(expected.text, UnicodeForm::kNfd), expected.nfd) << expected.text;
  EXPECT_EQ(NormalizeUnicode(expected.text, UnicodeForm::kNfkc), expected.nfkc) << expected.text;
  EXPECT_EQ(NormalizeUnicode(expected.text, UnicodeForm::kNfkd), expected.nfkd) << expected.text;
}

// Expected values from Hugging Face's `tokenizers` 0.23.3.
TEST(Unicode, NormalizesAsHuggingFace) {
  ExpectForms({"", "", "", "", ""});
  ExpectForms({"plain ASCII", "plain ASCII", "plain ASCII", "plain ASCII", "plain ASCII"});
  ExpectForms({"e\u0301e", "\u00E9e", "e\u0301e", "\u00E9e", "e\u0301e"});
  ExpectForms({"\u1E9B\u0323", "\u1E9B\u0323", "\u017F\u0323\u0307", "\u1E69", "s\u0323\u0307"});
  ExpectForms({"\u0344", "\u0308\u0301", "\u0308\u0301", "\u0308\u0301", "\u0308\u0301"});
  ExpectForms({"a\u0315\u0300\u05AE\u0300b", "\u00E0\u05AE\u0300\u0315b", "a\u05AE\u0300\u0300\u0315b",
               "\u00E0\u05AE\u0300\u0315b", "a\u05AE\u0300\u0300\u0315b"});
  ExpectForms({"\uAC01", "\uAC01", "\u1100\u1161\u11A8", "\uAC01", "\u1100\u1161\u11A8"});
  ExpectForms({"\u1100\u1161\u11A8", "\uAC01", "\u1100\u1161\u11A8", "\uAC01", "\u1100\u1161\u11A8"});
  ExpectForms({"x\uFB01x", "x\uFB01x", "x\uFB01x", "xfix", "xfix"});
  ExpectForms({"\u2460", "\u2460", "\u2460", "1", "1"});
  ExpectForms({"\uFF21", "\uFF21", "\uFF21", "A", "A"});
  ExpectForms({"\u0958", "\u0915\u093C", "\u0915\u093C", "\u0915\u093C", "\u0915\u093C"});
}

// The standard as it is now would move the marks, compose the letters and decompose the digits.
TEST(Unicode, LeavesCharactersAloneThatHuggingFaceDoesNotKnow) {
  for (const char* text : {"a\u0897\u0323b", "q\u0301\u1DF6\u0323", "\U000105D2\u0307", "\u32FF", "\U0001FBF3"}) {
    ExpectForms({text, text, text, text, text});
  }
  ExpectForms({"e\u0301\U0001FBF3e\u0301", "\u00E9\U0001FBF3\u00E9", "e\u0301\U0001FBF3e\u0301",
               "\u00E9\U0001FBF3\u00E9", "e\u0301\U0001FBF3e\u0301"});
}

TEST(Unicode, LowersEachCharacterByItself) {
  EXPECT_EQ(LowercaseUnicode("ABC xyz @[`{ 1"), "abc xyz @[`{ 1");
  EXPECT_EQ(LowercaseUnicode("\u00C0\u0416\u1E9E"), "\u00E0\u0436\u00DF");
  EXPECT_EQ(LowercaseUnicode("\u0130"), "i\u0307");
  EXPECT_EQ(LowercaseUnicode("\u0391\u03A3"), "\u03B1\u03C3");  // no final sigma
  EXPECT_EQ(LowercaseUnicode("\u01C4\uA7CE"), "\u01C6\uA7CF");  // U+A7CE is new in Unicode 17
}

// Marks of two classes in turn, many of them: in time, and ordered.
TEST(Unicode, LongRunsOfMarks) {
  constexpr int kMarks = 200000;
  std::string text = "a";
  std::string below, above;
  for (int i = 0; i < kMarks; ++i) {
    text += "\u0301\u0316";  // classes 230 and 220
    below += "\u0316";
    above += "\u0301";
  }
  EXPECT_EQ(NormalizeUnicode(text + "b", UnicodeForm::kNfd), "a" + below + above + "b");
  EXPECT_EQ(NormalizeUnicode(text + "b", UnicodeForm::kNfkc), "\u00E1" + below + above.substr(2) + "b");
}

// The long way and the short way agree.
TEST(Unicode, OrdersLongRunsAsShortOnes) {
  // Classes 230, 202, 230 (two marks in one), 129 and 130 (two marks in one), 240, 8, and 1.
  const std::vector<std::string> marks = {"\u0301", "\u0327", "\u0344", "\u0F73", "\u0345", "\u3099", "\u0334"};
  std::mt19937 random(1);
  for (int repetition = 0; repetition < 20; ++repetition) {
    std::string text = "e";
    std::vector<std::string> by_class(7);  // in the order of classes 1, 8, 129, 130, 202, 230, 240
    for (int i = 0; i < 500; ++i) {
      const size_t kind = random() % marks.size();
      text += marks[kind];
      if (kind == 0) by_class[5] += "\u0301";
      if (kind == 1) by_class[4] += "\u0327";
      if (kind == 2) by_class[5] += "\u0308\u0301";
      if (kind == 3) by_class[2] += "\u0F71";
      if (kind == 3) by_class[3] += "\u0F72";
      if (kind == 4) by_class[6] += "\u0345";
      if (kind == 5) by_class[1] += "\u3099";
      if (kind == 6) by_class[0] += "\u0334";
    }
    std::string expected = "e";
    for (const std::string& run : by_class) expected += run;
    EXPECT_EQ(NormalizeUnicode(text, UnicodeForm::kNfd), expected);
    EXPECT_EQ(NormalizeUnicode(text, UnicodeForm::kNfc), NormalizeUnicode(expected, UnicodeForm::kNfc));
  }
}

}  // namespace
}  // namespace titan
