#include "titan/data/packer.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <set>

#include "titan/base/file.h"
#include "titan/checkpoint/safetensors.h"

namespace titan {
namespace {

class FakeSource : public DocumentSource {
 public:
  explicit FakeSource(std::vector<std::vector<int64_t>> documents) : documents_(std::move(documents)) {}
  int64_t size() const override { return documents_.size(); }
  absl::StatusOr<Document> Read(int64_t index) const override { return Document(documents_[index]); }
  std::string Where(int64_t index) const override { return "fake:" + std::to_string(index); }
  std::string fingerprint() const override { return "fake"; }

 private:
  const std::vector<std::vector<int64_t>> documents_;
};

struct Row {
  std::vector<int64_t> tokens;
  std::vector<int64_t> labels;
  std::vector<int64_t> positions;
  bool operator==(const Row&) const = default;
};

absl::StatusOr<Row> NextRow(Packer& packer, int64_t length) {
  Row row = {std::vector<int64_t>(length), std::vector<int64_t>(length), std::vector<int64_t>(length)};
  const absl::Status status =
      packer.NextRow(absl::MakeSpan(row.tokens), absl::MakeSpan(row.labels), absl::MakeSpan(row.positions));
  if (!status.ok()) return status;
  return row;
}

// Every document's ids are its own, so that a label of another document shows.
std::vector<std::vector<int64_t>> RandomDocuments(int count, int max_size) {
  std::mt19937 random(count);
  std::vector<std::vector<int64_t>> documents(count);
  for (int i = 0; i < count; ++i) {
    documents[i].resize(random() % (max_size + 1));
    std::iota(documents[i].begin(), documents[i].end(), 1000 * i);
  }
  return documents;
}

// torchtitan's way, in its own steps: documents to (input, label, position), all of them joined, cut into rows, and
// positions counted again from the last zero or the row's start.
std::vector<Row> ReferenceRows(const std::vector<std::vector<int64_t>>& documents, int64_t length) {
  Row all;
  for (const std::vector<int64_t>& ids : documents) {
    if (ids.size() < 2) continue;
    all.tokens.insert(all.tokens.end(), ids.begin(), ids.end() - 1);
    all.labels.insert(all.labels.end(), ids.begin() + 1, ids.end());
    for (size_t i = 0; i + 1 < ids.size(); ++i) all.positions.push_back(i);
  }
  std::vector<Row> rows;
  for (size_t begin = 0; begin + length <= all.tokens.size(); begin += length) {
    const auto cut = [&](const std::vector<int64_t>& v) {
      return std::vector<int64_t>(v.begin() + begin, v.begin() + begin + length);
    };
    Row row = {cut(all.tokens), cut(all.labels), cut(all.positions)};
    int64_t start = 0;
    for (int64_t i = 0; i < length; ++i) {
      if (row.positions[i] == 0) start = i;
      row.positions[i] = i - start;
    }
    rows.push_back(row);
  }
  return rows;
}

TEST(Packer, PacksByHand) {
  const FakeSource source({{1, 2, 3}, {10, 11}, {20, 21, 22, 23, 24}});
  Packer packer(&source, {.vocab_size = 100, .shuffle = false, .repeat = false});
  EXPECT_EQ(*NextRow(packer, 4), (Row{{1, 2, 10, 20}, {2, 3, 11, 21}, {0, 1, 0, 0}}));
  // A document that goes on in the next row starts at position 0 there; what does not fill a row is dropped.
  EXPECT_EQ(*NextRow(packer, 3), (Row{{21, 22, 23}, {22, 23, 24}, {0, 1, 2}}));
  EXPECT_EQ(NextRow(packer, 4).status().code(), absl::StatusCode::kOutOfRange);
}

TEST(Packer, EqualsTheReference) {
  for (const int64_t length : {1, 2, 7, 64, 1000}) {
    const auto documents = RandomDocuments(40, 100);
    const FakeSource source(documents);
    Packer packer(&source, {.vocab_size = 1000000, .shuffle = false, .repeat = false});
    const std::vector<Row> expected = ReferenceRows(documents, length);
    ASSERT_FALSE(expected.empty());
    for (const Row& row : expected) ASSERT_EQ(*NextRow(packer, length), row);
    EXPECT_EQ(NextRow(packer, length).status().code(), absl::StatusCode::kOutOfRange);
  }
}

TEST(Packer, ShufflesEveryEpochAnew) {
  const auto documents = RandomDocuments(40, 100);
  const FakeSource source(documents);
  Packer packer(&source, {.vocab_size = 1000000, .shuffle = true, .seed = 5, .repeat = true});
  std::vector<std::vector<int64_t>> stream;
  for (const int64_t epoch : {0, 1, 2}) {
    const Permutation order(documents.size(), 5, epoch);
    for (size_t i = 0; i < documents.size(); ++i) stream.push_back(documents[order(i)]);
  }
  // Rows run on from one epoch into the next.
  for (const Row& row : ReferenceRows(stream, 64)) ASSERT_EQ(*NextRow(packer, 64), row);
  EXPECT_EQ(packer.position().epoch, 2);
}

TEST(Packer, ContinuesFromEveryPosition) {
  const FakeSource source(RandomDocuments(12, 30));
  const PackerOptions options = {.vocab_size = 1000000, .shuffle = true, .seed = 1, .repeat = true};
  for (const int64_t length : {1, 5, 64}) {
    Packer packer(&source, options);
    std::vector<StreamPosition> positions;
    std::vector<Row> rows;
    for (int i = 0; i < 600 / length + 5; ++i) {
      positions.push_back(packer.position());
      rows.push_back(*NextRow(packer, length));
    }
    for (size_t i = 0; i < rows.size(); ++i) {
      Packer other(&source, options);
      other.Seek(positions[i]);
      for (size_t j = i; j < std::min(i + 4, rows.size()); ++j) ASSERT_EQ(*NextRow(other, length), rows[j]) << i;
    }
  }
}

TEST(Packer, SaysWhatIsWrong) {
  const FakeSource empty({{1}, {}, {2}});
  Packer of_empty(&empty, {.vocab_size = 100, .shuffle = false, .repeat = true});
  EXPECT_EQ(NextRow(of_empty, 4).status().message(), "no document has two tokens or more");
  const FakeSource large({{1, 2}, {3, 100, 4}});
  Packer of_large(&large, {.vocab_size = 100, .shuffle = false, .repeat = true});
  EXPECT_EQ(NextRow(of_large, 2).status().message(), "fake:1: token 1 is 100, and model.vocab_size is 100");
  Packer beyond(&large, {.vocab_size = 1000, .shuffle = false, .repeat = true});
  beyond.Seek({0, 1, 3});
  EXPECT_EQ(NextRow(beyond, 2).status().message(), "fake:1: has no token 3, where the stream should continue");
}

TEST(Permutation, IsAPermutationForEverySizeAndEpoch) {
  for (const int64_t size : {1, 2, 3, 4, 5, 16, 17, 638, 1024, 1025}) {
    std::set<std::vector<int64_t>> orders;
    for (const int64_t epoch : {0, 1, 2}) {
      const Permutation order(size, 42, epoch);
      std::vector<int64_t> values;
      for (int64_t i = 0; i < size; ++i) values.push_back(order(i));
      orders.insert(values);
      std::sort(values.begin(), values.end());
      for (int64_t i = 0; i < size; ++i) ASSERT_EQ(values[i], i) << size;
    }
    EXPECT_GE(orders.size(), size > 16 ? 3u : 1u) << size;
  }
}

// No place prefers a document: chi-squared over the first place of 2000 epochs of 10 documents.
TEST(Permutation, IsEven) {
  std::vector<int> counts(10);
  for (int64_t epoch = 0; epoch < 2000; ++epoch) ++counts[Permutation(10, 3, epoch)(0)];
  double chi_squared = 0;
  for (const int count : counts) chi_squared += (count - 200) * (count - 200) / 200.0;
  EXPECT_LT(chi_squared, 27.9);  // p = 0.001 with 9 degrees of freedom
}

class TokenFilesTest : public testing::Test {
 protected:
  template <typename T>
  static SafetensorsFile::Entry Entry(const std::string& name, StoredDtype dtype, const std::vector<T>& values) {
    return {name,
            dtype,
            {static_cast<int64_t>(values.size())},
            absl::MakeConstSpan(reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T))};
  }
  static std::string Path(const std::string& name) { return testing::TempDir() + "/" + name; }

  static std::vector<int64_t> Ids(const DocumentSource& source, int64_t index) {
    const Document document = *source.Read(index);
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < document.size(); ++i) ids.push_back(document[i]);
    return ids;
  }
};

TEST_F(TokenFilesTest, ReadsSafetensorsOfEveryWidth) {
  const std::vector<int64_t> offsets = {0, 2, 2, 5};
  const auto check = [&](auto zero, StoredDtype dtype, int64_t last) {
    const std::vector<decltype(zero)> tokens = {1, 2, 3, 4, static_cast<decltype(zero)>(last)};
    const std::string path = Path("tokens.safetensors");
    ASSERT_TRUE(
        WriteSafetensors(path, {Entry("offsets", StoredDtype::kI64, offsets), Entry("tokens", dtype, tokens)}).ok());
    const auto source = OpenTokenFiles({path, path});
    ASSERT_TRUE(source.ok()) << source.status();
    ASSERT_EQ((*source)->size(), 6);
    EXPECT_EQ(Ids(**source, 0), (std::vector<int64_t>{1, 2}));
    EXPECT_EQ(Ids(**source, 1), std::vector<int64_t>());
    EXPECT_EQ(Ids(**source, 5), (std::vector<int64_t>{3, 4, last}));
    EXPECT_EQ((*source)->Where(5), path + ", document 2");
  };
  check(int64_t{}, StoredDtype::kI64, 1000000);
  check(int32_t{}, StoredDtype::kI32, 1000000);
  check(uint32_t{}, StoredDtype::kU32, 4000000000);
  check(uint16_t{}, StoredDtype::kU16, 65535);
}

TEST_F(TokenFilesTest, WithoutOffsetsAFileIsOneDocument) {
  const std::vector<int32_t> tokens = {7, 8, 9};
  ASSERT_TRUE(WriteSafetensors(Path("one.safetensors"), {Entry("tokens", StoredDtype::kI32, tokens)}).ok());
  ASSERT_TRUE(WriteFileAtomically(Path("two.uint16.bin"), std::string("\x01\x02\xff\xff", 4)).ok());
  ASSERT_TRUE(WriteFileAtomically(Path("three.uint32.bin"), std::string("\x01\x02\x00\x00", 4)).ok());
  const auto source = OpenTokenFiles({Path("one.safetensors"), Path("two.uint16.bin"), Path("three.uint32.bin")});
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ((*source)->size(), 3);
  EXPECT_EQ(Ids(**source, 0), (std::vector<int64_t>{7, 8, 9}));
  EXPECT_EQ(Ids(**source, 1), (std::vector<int64_t>{0x201, 0xFFFF}));
  EXPECT_EQ(Ids(**source, 2), std::vector<int64_t>{0x201});
}

TEST_F(TokenFilesTest, SaysWhatIsWrongWithAFile) {
  const auto message = [](const std::string& path) {
    const auto source = OpenTokenFiles({path});
    EXPECT_FALSE(source.ok());
    EXPECT_NE(source.status().message().find(path), std::string::npos) << source.status();
    return std::string(source.status().message());
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  ASSERT_TRUE(WriteFileAtomically(Path("odd.uint16.bin"), "abc").ok());
  contains(message(Path("odd.uint16.bin")), "3 bytes are no whole number of ids of 2 bytes: the file is cut off");
  ASSERT_TRUE(WriteFileAtomically(Path("tokens.bin"), "ab").ok());
  contains(message(Path("tokens.bin")), "rename it");
  contains(message(Path("none.uint16.bin")), "cannot open");

  const std::vector<int32_t> tokens = {7, 8, 9};
  const std::vector<float> floats = {7, 8, 9};
  const std::string path = Path("bad.safetensors");
  ASSERT_TRUE(WriteSafetensors(path, {Entry("ids", StoredDtype::kI32, tokens)}).ok());
  contains(message(path), "no entry `tokens`");
  ASSERT_TRUE(WriteSafetensors(path, {Entry("tokens", StoredDtype::kF32, floats)}).ok());
  contains(message(path), "must have one dimension and be I64");
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{0}, {1, 3}, {0, 2}, {0, 4}, {0, 2, 1, 3}, {0, -1, 3}, {}}) {
    ASSERT_TRUE(WriteSafetensors(
                    path, {Entry("tokens", StoredDtype::kI32, tokens), Entry("offsets", StoredDtype::kI64, offsets)})
                    .ok());
    contains(message(path), "`offsets`");
  }
  ASSERT_TRUE(WriteSafetensors(path, {Entry("tokens", StoredDtype::kI32, tokens)}).ok());
  const std::string whole = *ReadFile(path);
  for (size_t size = 0; size < whole.size(); size += 3) {
    ASSERT_TRUE(WriteFileAtomically(path, whole.substr(0, size)).ok());
    message(path);
  }
}

}  // namespace
}  // namespace titan
