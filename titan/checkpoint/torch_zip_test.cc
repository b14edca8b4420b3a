#include "titan/checkpoint/torch_zip.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

std::string Fixture(const std::string& name) { return ReadFile("titan/checkpoint/testdata/torch/" + name).value(); }

std::string Written(const std::string& content) {
  const std::string path = testing::TempDir() + "/archive.pt";
  unlink(path.c_str());  // it may still be mapped
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string ErrorOf(const std::string& content) {
  const auto zip = TorchZip::Open(Written(content));
  return zip.ok() ? "no error" : std::string(zip.status().message());
}

std::string Little(uint64_t value, int size) {
  std::string bytes;
  for (int i = 0; i < size; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

// An entry, and what its headers say of it.
struct TestEntry {
  std::string name;
  std::string content;
  uint16_t flags = 0;
  uint16_t method = 0;
  std::string local_name = {};                // `name` if empty
  std::optional<uint64_t> stored_bytes = {};  // the content's size if unset
  std::optional<uint64_t> offset = {};        // where it is if unset
  std::string extra = {};                     // of the list
  uint16_t disk = 0;
};

std::string LocalHeader(const TestEntry& entry) {
  const std::string& name = entry.local_name.empty() ? entry.name : entry.local_name;
  return absl::StrCat(Little(0x04034b50, 4), Little(20, 2), Little(entry.flags, 2), Little(entry.method, 2),
                      Little(0, 4), Little(ZipCrc32(entry.content), 4), Little(entry.content.size(), 4),
                      Little(entry.content.size(), 4), Little(name.size(), 2), Little(0, 2), name);
}

std::string ListEntry(const TestEntry& entry, uint64_t offset) {
  return absl::StrCat(Little(0x02014b50, 4), Little(20, 2), Little(20, 2), Little(entry.flags, 2),
                      Little(entry.method, 2), Little(0, 4), Little(ZipCrc32(entry.content), 4),
                      Little(entry.stored_bytes.value_or(entry.content.size()), 4), Little(entry.content.size(), 4),
                      Little(entry.name.size(), 2), Little(entry.extra.size(), 2), Little(0, 2), Little(entry.disk, 2),
                      Little(0, 6), Little(entry.offset.value_or(offset), 4), entry.name, entry.extra);
}

std::string End(uint64_t count, uint64_t bytes, uint64_t offset) {
  return absl::StrCat(Little(0x06054b50, 4), Little(0, 4), Little(count, 2), Little(count, 2), Little(bytes, 4),
                      Little(offset, 4), Little(0, 2));
}

std::string Zip(const std::vector<TestEntry>& entries) {
  std::string file, list;
  for (const TestEntry& entry : entries) {
    list += ListEntry(entry, file.size());
    absl::StrAppend(&file, LocalHeader(entry), entry.content);
  }
  return absl::StrCat(file, list, End(entries.size(), list.size(), file.size()));
}

TEST(TorchZip, Crc32) {
  EXPECT_EQ(ZipCrc32(""), 0u);
  EXPECT_EQ(ZipCrc32("123456789"), 0xcbf43926u);
  EXPECT_EQ(ZipCrc32("The quick brown fox jumps over the lazy dog"), 0x414fa339u);
}

TEST(TorchZip, ReadsWhatTorchHasSaved) {
  for (const char* name : {"small.pt", "unaligned.pt"}) {
    const auto zip = TorchZip::Open(Written(Fixture(name)));
    ASSERT_TRUE(zip.ok()) << zip.status();
    EXPECT_TRUE((*zip)->Has("data.pkl"));
    EXPECT_FALSE((*zip)->Has("data/1"));
    EXPECT_EQ((*zip)->Read("byteorder").value(), "little");
    EXPECT_EQ((*zip)->Read("data/0").value(), std::string_view("\0\0\0\0\0\0\x80\x3f\0\0\0\x40", 12));
    EXPECT_THAT(std::string((*zip)->Read("data/7").status().message()),
                HasSubstr("archive.pt: has no entry \"data/7\""));
  }
}

TEST(TorchZip, OtherFilesAreRefused) {
  EXPECT_THAT(ErrorOf(Fixture("deflated.pt")), HasSubstr("is compressed, which torch.save does not do"));
  EXPECT_THAT(ErrorOf(Fixture("legacy.pt")), HasSubstr("the format of torch before 1.6"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("the file is empty"));
  EXPECT_THAT(ErrorOf("no archive at all, and a bit longer than its end"), HasSubstr("does not end as a zip archive"));
  EXPECT_TRUE(absl::IsNotFound(TorchZip::Open("missing.pt").status()));
  EXPECT_THAT(std::string(TorchZip::Open(testing::TempDir()).status().message()), HasSubstr("not a regular file"));
}

TEST(TorchZip, LiesAreNamed) {
  const TestEntry a = {.name = "x/a", .content = "content of a"}, b = {.name = "x/b", .content = "b"};
  EXPECT_EQ(ErrorOf(Zip({a, b})), "no error");
  EXPECT_EQ(ErrorOf(Zip({})), "no error");

  TestEntry inner = {.name = "x/inner", .content = "in"}, outer = {.name = "x/outer", .content = ""};
  outer.content = absl::StrCat("before", LocalHeader(inner), inner.content, "behind");
  inner.offset = LocalHeader(outer).size() + 6;
  EXPECT_THAT(ErrorOf(Zip({outer, inner})), HasSubstr("entry \"x/inner\": overlaps \"x/outer\""));
  EXPECT_THAT(ErrorOf(Zip({a, a})), HasSubstr("entry \"x/a\": it is there twice"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "", .flags = 1}})), HasSubstr("is encrypted"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "", .method = 8}})), HasSubstr("is compressed"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "a", .stored_bytes = 2}})), HasSubstr("two sizes disagree"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "", .local_name = "x/b"}})), HasSubstr("and the list disagree"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "a", .content = ""}})), HasSubstr("is in no folder"));
  EXPECT_THAT(ErrorOf(Zip({a, {.name = "y/a", .content = ""}})), HasSubstr("two top folders"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "", .offset = 1}})), HasSubstr("no header where the list says"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "", .offset = 1u << 31}})), HasSubstr("not inside the file"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "", .disk = 1}})), HasSubstr("in another part of several"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "", .offset = 0xffffffff}})), HasSubstr("lacks a value"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a",
                            .content = "",
                            .offset = 0xffffffff,
                            .extra = Little(1, 2) + Little(8, 2) + Little(~uint64_t{0}, 8)}})),
              HasSubstr("not inside the file"));
  EXPECT_THAT(ErrorOf(Zip({{.name = "x/a", .content = "", .extra = "abc"}})), HasSubstr("extra fields are cut off"));
}

TEST(TorchZip, LyingEndsAreNamed) {
  const TestEntry a = {.name = "x/a", .content = "content of a"};
  const std::string local = LocalHeader(a) + a.content, list = ListEntry(a, 0);
  EXPECT_EQ(ErrorOf(local + list + End(1, list.size(), local.size())), "no error");
  EXPECT_THAT(ErrorOf(local + list + End(2, list.size(), local.size())), HasSubstr("another number of entries"));
  EXPECT_THAT(ErrorOf(local + list + End(1, list.size(), local.size() + 1)), HasSubstr("does not end where"));
  EXPECT_THAT(ErrorOf(local + list + End(1, ~uint32_t{0}, 2)), HasSubstr("does not end where"));
  EXPECT_THAT(ErrorOf(local + list + "?" + End(1, list.size() + 1, local.size())), HasSubstr("list of entries is"));
  std::string comment = local + list + End(1, list.size(), local.size());
  comment[comment.size() - 2] = 1;
  EXPECT_THAT(ErrorOf(comment), HasSubstr("a comment"));

  // torch.save writes the record of zip64, too.
  const std::string torch = Fixture("small.pt");
  const size_t end = torch.size() - 22, locator = end - 20, record = locator - 56;
  const auto changed = [&](size_t at, uint64_t value, int size) {
    return ErrorOf(std::string(torch).replace(at, size, Little(value, size)));
  };
  EXPECT_THAT(changed(record, 0, 4), HasSubstr("zip64 record is damaged"));
  EXPECT_THAT(changed(record + 32, 3, 8), HasSubstr("it is one part of several"));
  EXPECT_THAT(changed(record + 40, 1, 8), HasSubstr("does not end where its zip64 record begins"));
  EXPECT_THAT(changed(record + 48, ~uint64_t{0}, 8), HasSubstr("does not end where its zip64 record begins"));
  EXPECT_THAT(changed(locator + 8, ~uint64_t{0}, 8), HasSubstr("zip64 record is not inside the file"));
  EXPECT_THAT(changed(end + 12, 1, 4), HasSubstr("its two end records disagree"));
}

// More than 4 GiB, of a file that is nearly all holes.
TEST(TorchZip, Zip64) {
  const uint64_t big = uint64_t{5} << 30;
  const TestEntry last = {.name = "x/last", .content = "after the big one"};
  const std::string head = LocalHeader({.name = "x/big", .content = ""});
  const uint64_t last_offset = head.size() + big, list_offset = last_offset + LocalHeader(last).size() + 17;
  TestEntry big_entry = {.name = "x/big", .content = ""};
  big_entry.stored_bytes = 0xffffffff;
  big_entry.extra = Little(1, 2) + Little(16, 2) + Little(big, 8) + Little(big, 8);
  std::string first = ListEntry(big_entry, 0);
  first.replace(24, 4, Little(0xffffffff, 4));  // the size
  TestEntry last_entry = last;
  last_entry.offset = 0xffffffff;
  last_entry.extra = Little(7, 2) + Little(2, 2) + "??" + Little(1, 2) + Little(8, 2) + Little(last_offset, 8);
  const std::string list = first + ListEntry(last_entry, 0);
  const std::string record =
      absl::StrCat(Little(0x06064b50, 4), Little(44, 8), Little(45, 2), Little(45, 2), Little(0, 8), Little(2, 8),
                   Little(2, 8), Little(list.size(), 8), Little(list_offset, 8));
  const std::string locator =
      absl::StrCat(Little(0x07064b50, 4), Little(0, 4), Little(list_offset + list.size(), 8), Little(1, 4));
  const std::string tail = LocalHeader(last) + last.content + list + record + locator + End(2, list.size(), 0xffffffff);

  const std::string path = testing::TempDir() + "/large.pt";
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(pwrite(file, head.data(), head.size(), 0), static_cast<ssize_t>(head.size()));
  ASSERT_EQ(pwrite(file, tail.data(), tail.size(), static_cast<off_t>(last_offset)), static_cast<ssize_t>(tail.size()));
  close(file);
  const auto zip = TorchZip::Open(path);
  ASSERT_TRUE(zip.ok()) << zip.status();
  EXPECT_TRUE((*zip)->Has("big"));
  EXPECT_EQ((*zip)->Read("last").value(), "after the big one");
  unlink(path.c_str());
}

TEST(TorchZip, EveryTruncationIsAnError) {
  const std::string file = Fixture("small.pt");
  for (size_t size = 0; size < file.size(); ++size) EXPECT_NE(ErrorOf(file.substr(0, size)), "no error") << size;
}

// A flipped byte is an error, or in what nobody reads.
TEST(TorchZip, NoFlippedByteChangesWhatIsRead) {
  const std::string file = Fixture("small.pt");
  const auto original = TorchZip::Open(Written(file)).value();
  int refused = 0;
  for (size_t i = 0; i < file.size(); ++i) {
    std::string damaged = file;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    const auto zip = TorchZip::Open(Written(damaged));
    refused += zip.ok() ? 0 : 1;
    if (!zip.ok()) continue;
    for (const char* name : {"data.pkl", "data/0", "byteorder"}) {
      const auto content = (*zip)->Read(name);
      if (content.ok()) {
        EXPECT_EQ(*content, original->Read(name).value()) << "byte " << i;
      }
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(TorchZip, MutationsNeverCrash) {
  const std::string file = Fixture("small.pt");
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::string mutated = file;
    for (int edit = random() % 6; edit >= 0; --edit) {
      // Mostly in the headers at the end.
      const size_t at = random() % 2 == 0 ? random() % mutated.size() : mutated.size() - 1 - random() % 400;
      mutated[at] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
    }
    const auto zip = TorchZip::Open(Written(mutated));
    if (zip.ok()) (*zip)->Read("data.pkl").status().IgnoreError();
  }
}

}  // namespace
}  // namespace titan
