#include "titan/data/unicode.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace titan
