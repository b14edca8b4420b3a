#include "titan/base/sha256.h"

#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

std::string Hash(std::string_view bytes, Sha256::Implementation implementation) {
  Sha256 hash(implementation);
  hash.Update(bytes);
  return hash.FinishHex();
}

class Sha256Test : public testing::TestWithParam<Sha256::Implementation> {};

INSTANTIATE_TEST_SUITE_P(Both, Sha256Test,
                         testing::Values(Sha256::Implementation::kFastest, Sha256::Implementation::kPortable));

// FIPS 180-4 examples and the NIST CAVP byte vectors (SHA256ShortMsg).
TEST_P(Sha256Test, NistVectors) {
  EXPECT_EQ(Hash("", GetParam()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hash("abc", GetParam()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", GetParam()),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopq"
                 "rstnopqrstu",
                 GetParam()),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(Hash("\xd3", GetParam()), "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1");
  EXPECT_EQ(Hash(std::string(1000000, 'a'), GetParam()),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_P(Sha256Test, PiecesGiveTheSameAsTheWhole) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text.push_back(static_cast<char>(i * i));
  for (const size_t piece : {1, 3, 55, 56, 63, 64, 65, 127, 128, 999}) {
    Sha256 hash(GetParam());
    for (size_t at = 0; at < text.size(); at += piece) hash.Update(std::string_view(text).substr(at, piece));
    EXPECT_EQ(hash.FinishHex(), Sha256Hex(text)) << "pieces of " << piece;
  }
}

// Every length around the block and padding boundaries.
TEST(Sha256, ImplementationsAgreeAtEveryLength) {
  std::string text;
  for (int length = 0; length < 300; ++length) {
    ASSERT_EQ(Hash(text, Sha256::Implementation::kFastest), Hash(text, Sha256::Implementation::kPortable)) << length;
    text.push_back(static_cast<char>(length * 31 + 1));
  }
}

TEST(Sha256, OfNothingInTheMiddle) {
  Sha256 hash;
  hash.Update("ab");
  hash.Update(std::string_view());
  hash.Update("c");
  EXPECT_EQ(hash.FinishHex(), Sha256Hex("abc"));
}

TEST(Sha256, OfFile) {
  const std::string path = testing::TempDir() + "/million";
  ASSERT_TRUE(WriteFileAtomically(path, std::string(3000000, 'a')).ok());
  EXPECT_EQ(Sha256OfFile(path).value(), Sha256Hex(std::string(3000000, 'a')));
  EXPECT_EQ(Sha256OfFile(path + ".missing").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace titan
