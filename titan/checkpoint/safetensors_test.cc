#include "titan/checkpoint/safetensors.h"

#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <random>

#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

std::string TestPath(const std::string& name) { return testing::TempDir() + "/" + name; }

// A file of the given header text and `data_bytes` bytes behind it.
std::string FileOf(const std::string& header, size_t data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(header.size() >> (8 * i)));
  return file + header + std::string(data_bytes, 'd');
}

absl::Status OpenBytes(const std::string& bytes) {
  const std::string path = TestPath("bytes.safetensors");
  std::ofstream(path, std::ios::binary) << bytes;  // not synced to the disk: there are thousands
  const auto file = SafetensorsFile::Open(path);
  if (!file.ok()) {
    EXPECT_NE(file.status().message().find(path), std::string::npos) << file.status();
    return file.status();
  }
  // All that is promised of an open file must be readable.
  uint64_t sum = 0;
  for (const SafetensorsFile::Entry& entry : (*file)->entries()) {
    for (const std::byte value : entry.data) sum += std::to_integer<uint64_t>(value);
    EXPECT_EQ((*file)->Find(entry.name), &entry);
    EXPECT_EQ(NumBytes(entry.dtype, entry.shape).value(), static_cast<int64_t>(entry.data.size()));
  }
  EXPECT_LE(sum, bytes.size() * 255);
  return absl::OkStatus();
}

template <typename T>
absl::Span<const std::byte> BytesOf(const std::vector<T>& values) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T));
}

TEST(Safetensors, RoundTrip) {
  const std::vector<float> floats = {1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> integers = {-7};
  const std::vector<uint8_t> bytes = {9, 8, 7};
  const std::string path = TestPath("round.safetensors");
  ASSERT_TRUE(WriteSafetensors(path,
                               {{"z.weight", StoredDtype::kF32, {2, 3}, BytesOf(floats)},
                                {"scalar", StoredDtype::kI64, {}, BytesOf(integers)},
                                {"empty", StoredDtype::kBF16, {0, 5}, {}},
                                {"a \"quoted\" \xc3\xa9", StoredDtype::kU8, {3}, BytesOf(bytes)}},
                               {{"format", "pt"}})
                  .ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ((*file)->entries().size(), 4u);
  EXPECT_EQ((*file)->metadata().at("format"), "pt");
  EXPECT_EQ((*file)->header().size() % 64, 0u);
  const SafetensorsFile::Entry* entry = (*file)->Find("z.weight");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->dtype, StoredDtype::kF32);
  EXPECT_EQ(entry->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(entry->data.data(), floats.data(), 24), 0);
  EXPECT_EQ((*file)->Find("a \"quoted\" \xc3\xa9")->data.size(), 3u);
  EXPECT_EQ((*file)->Find("scalar")->shape.size(), 0u);
  EXPECT_EQ((*file)->Find("missing"), nullptr);
}

TEST(Safetensors, BytesDependOnTheArgumentsAlone) {
  const std::vector<float> floats = {1, 2};
  std::string files[2];
  for (std::string& file : files) {
    const std::string path = TestPath("same.safetensors");
    ASSERT_TRUE(
        WriteSafetensors(path, {{"w", StoredDtype::kF32, {2}, BytesOf(floats)}}, {{"b", "1"}, {"a", "2"}}).ok());
    file = ReadFile(path).value();
  }
  EXPECT_EQ(files[0], files[1]);
}

TEST(Safetensors, ReadsFilesOfTheHuggingFaceLibrary) {
  const auto file = SafetensorsFile::Open("titan/checkpoint/testdata/llama3_1/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->entries().size(), 21u);
  const SafetensorsFile::Entry* entry = (*file)->Find("model.embed_tokens.weight");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->shape, (std::vector<int64_t>{384, 64}));
  EXPECT_EQ(entry->data.size(), 384u * 64 * 4);
}

TEST(Safetensors, WriterRefusesWhatTheReaderWould) {
  const std::vector<float> floats = {1, 2};
  const std::string path = TestPath("refused.safetensors");
  const auto write = [&](std::vector<SafetensorsFile::Entry> entries) { return WriteSafetensors(path, entries); };
  const SafetensorsFile::Entry good = {"w", StoredDtype::kF32, {2}, BytesOf(floats)};
  EXPECT_TRUE(write({good}).ok());
  EXPECT_FALSE(write({good, good}).ok());
  EXPECT_FALSE(write({{"w", StoredDtype::kF32, {3}, BytesOf(floats)}}).ok());
  EXPECT_FALSE(write({{"w", StoredDtype::kF32, {-2}, BytesOf(floats)}}).ok());
  EXPECT_FALSE(write({{"\xff", StoredDtype::kF32, {2}, BytesOf(floats)}}).ok());
  EXPECT_FALSE(write({{"__metadata__", StoredDtype::kF32, {2}, BytesOf(floats)}}).ok());
  auto writer = SafetensorsWriter::Create(path, {{"w", StoredDtype::kF32, {2}}});
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE(writer->Close().ok());  // before its tensor
}

TEST(Safetensors, LyingHeadersAreErrors) {
  const std::string w = R"("w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  ASSERT_TRUE(OpenBytes(FileOf("{" + w + "}", 8)).ok());
  ASSERT_TRUE(OpenBytes(FileOf("{}", 0)).ok());
  struct Case {
    const char* reason;  // part of the message
    std::string header;
    size_t data_bytes = 8;
  };
  const Case cases[] = {
      {"cut off", "{" + w + "}", 7},
      {"after the last tensor", "{" + w + "}", 9},
      {"appears twice", "{" + w + "," + w + "}"},
      {"overlaps", "{" + w + R"(,"v":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"},
      {"overlaps", "{" + w + R"(,"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"},
      {"no tensor's", R"({"v":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"},
      {"do not span", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4},
      {"do not span", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"},
      {"too large", R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0},
      {"too large", R"({"w":{"dtype":"U8","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}})"},
      {"too large", R"({"w":{"dtype":"F64","shape":[9223372036854775807],"data_offsets":[0,8]}})"},
      {"too large", R"({"w":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})", 0},
      {"cut off", R"({"w":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}})"},
      {"integers", R"({"w":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})"},
      {"integers", R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"},
      {"integers", R"({"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})"},
      {"integers", R"({"w":{"dtype":"F32","shape":[true],"data_offsets":[0,8]}})"},
      {"integers", R"({"w":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})"},
      {"integers", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})"},
      {"two elements", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8]}})"},
      {"two elements", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4,8]}})"},
      {"not a list", R"({"w":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})"},
      {"unknown dtype", R"({"w":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})"},
      {"dtype is missing", R"({"w":{"dtype":32,"shape":[2],"data_offsets":[0,8]}})"},
      {"dtype is missing", R"({"w":{"shape":[2],"data_offsets":[0,8]}})"},
      {"shape is missing", R"({"w":{"dtype":"F32","data_offsets":[0,8]}})"},
      {"data_offsets is missing", R"({"w":{"dtype":"F32","shape":[2]}})"},
      {"unknown key", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})"},
      {"appears twice", R"({"w":{"dtype":"F32","dtype":"F64","shape":[2],"data_offsets":[0,8]}})"},
      {"not an object", R"({"w":[]})"},
      {"not an object", R"({"__metadata__":"x"})"},
      {"not a string", R"({"__metadata__":{"x":1}})"},
      {"not a JSON object", "[]", 0},
      {"not JSON", "", 0},
      {"not JSON", "{" + w, 8},
      {"not JSON", "{" + w + "}}", 8},
      {"not JSON", "{\"\xff\":1}", 8},
      {"not JSON", std::string("{\0}", 3), 8},
      {"not JSON", std::string(1000000, '['), 8},
  };
  ASSERT_TRUE(OpenBytes(FileOf(R"({"w":{"dtype":"U8","shape":[4294967296,0],"data_offsets":[0,0]}})", 0)).ok());
  for (const Case& test : cases) {
    const absl::Status status = OpenBytes(FileOf(test.header, test.data_bytes));
    EXPECT_NE(status.message().find(test.reason), std::string::npos) << test.header.substr(0, 100) << "\n" << status;
    EXPECT_FALSE(status.ok()) << test.header.substr(0, 100);
  }
}

TEST(Safetensors, LyingLengthsAreErrors) {
  EXPECT_TRUE(absl::IsDataLoss(OpenBytes("")));
  EXPECT_TRUE(absl::IsDataLoss(OpenBytes("1234567")));
  EXPECT_FALSE(OpenBytes(std::string(8, '\0')).ok());
  EXPECT_FALSE(OpenBytes(std::string(8, '\xff') + "{}").ok());
  EXPECT_TRUE(absl::IsDataLoss(OpenBytes(std::string("\x03\0\0\0\0\0\0\0{}", 10))));
  EXPECT_FALSE(OpenBytes(std::string("\0\0\0\0\0\0\0\x80{}", 10)).ok());
}

TEST(Safetensors, OnlyRegularFilesAreOpened) {
  EXPECT_TRUE(absl::IsNotFound(SafetensorsFile::Open(TestPath("missing.safetensors")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(SafetensorsFile::Open(testing::TempDir()).status()));
  const std::string pipe = TestPath("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(SafetensorsFile::Open(pipe).status()));
}

// No input may do more than give an error: every byte of the header replaced by every interesting value, every
// truncation, and many random edits that keep the JSON nearly whole. Run under AddressSanitizer too.
TEST(Safetensors, MutationsNeverCrash) {
  const std::string path = TestPath("valid.safetensors");
  const std::vector<float> floats(6, 1);
  ASSERT_TRUE(WriteSafetensors(path,
                               {{"w", StoredDtype::kF32, {2, 3}, BytesOf(floats)},
                                {"v", StoredDtype::kBF16, {1}, BytesOf(std::vector<uint16_t>{7})}},
                               {{"format", "pt"}})
                  .ok());
  const std::string valid = ReadFile(path).value();
  ASSERT_TRUE(OpenBytes(valid).ok());
  const size_t header_end = valid.rfind('}') + 1;

  // Through the mapping, without a file per try, would be faster; but the file is what a user has.
  int accepted = 0, refused = 0;
  const auto attempt = [&](const std::string& bytes) { ++(OpenBytes(bytes).ok() ? accepted : refused); };
  for (size_t i = 0; i < header_end; ++i) {
    for (const int value : {0x00, 0xff, int{'9'}, int{'"'}, int{'}'}, int{','}, valid[i] ^ 1}) {
      std::string mutated = valid;
      mutated[i] = static_cast<char>(value);
      attempt(mutated);
    }
  }
  for (size_t length = 0; length < valid.size(); ++length) {
    std::string cut = valid;
    cut.resize(length);
    EXPECT_FALSE(OpenBytes(cut).ok()) << length;
  }
  std::mt19937 random(1);
  const std::string pieces[] = {
      "9223372036854775807", "-1", "1e999", "[", "]", "\"w\"", "0", ",", "{}", "\\u0000", "8"};
  for (int i = 0; i < 2000; ++i) {
    std::string text = valid.substr(8, header_end - 8);
    const size_t at = random() % text.size();
    text.replace(at, random() % 4, pieces[random() % std::size(pieces)]);
    attempt(FileOf(text, 26));
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 0);  // e.g. another letter in a name
}

}  // namespace
}  // namespace titan
