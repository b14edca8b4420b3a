#include "titan/checkpoint/torch_zip.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

constexpr uint32_t kLocalSignature = 0x04034b50, kCentralSignature = 0x02014b50, kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50;
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr uint16_t kExtra64 = 1;        // the extra field that holds what does not fit into 32 bits
constexpr uint16_t kEncryptedFlag = 1;  // of general purpose flags
constexpr uint32_t kIn64 = 0xffffffff;  // stands for a value in the extra field
constexpr std::string_view kLegacyMagic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46";  // of files before torch 1.6

absl::Status Lie(std::string_view reason) { return absl::InvalidArgumentError(reason); }

absl::Status EntryLie(std::string_view name, std::string_view reason) {
  return Lie(absl::StrCat("entry \"", absl::CHexEscape(name), "\": ", reason));
}

// Little-endian numbers of a piece of the file. Whoever reads has made sure that it is long enough.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : bytes_(bytes) {}
  uint64_t Take(int size) {
    uint64_t value = 0;
    for (int i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes_[i]);
    bytes_.remove_prefix(size);
    return value;
  }
  uint16_t Take16() { return static_cast<uint16_t>(Take(2)); }
  uint32_t Take32() { return static_cast<uint32_t>(Take(4)); }
  uint64_t Take64() { return Take(8); }
  void Skip(size_t size) { bytes_.remove_prefix(size); }
  std::string_view rest() const { return bytes_; }

 private:
  std::string_view bytes_;
};

// Where the list of all entries lies.
struct Directory {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t entries = 0;
};

struct Entry {
  std::string name;
  uint64_t bytes = 0;
  uint32_t crc32 = 0;
  uint64_t begin = 0;  // of its local header
  uint64_t data = 0;   // of its content
};

// `size` bytes at `offset` of the file, if it has them.
std::optional<std::string_view> Piece(std::string_view file, uint64_t offset, uint64_t size) {
  if (offset > file.size() || size > file.size() - offset) return std::nullopt;
  return file.substr(offset, size);
}

// The record of zip64 that the locator right before the end record points to.
absl::StatusOr<Directory> FindDirectory64(std::string_view file, uint64_t locator_offset) {
  Fields locator(file.substr(locator_offset));
  locator.Skip(4);
  const uint32_t disk = locator.Take32();
  const uint64_t offset = locator.Take64();
  if (disk != 0 || locator.Take32() != 1) return Lie("it is one part of several");
  const std::optional<std::string_view> record = Piece(file.substr(0, locator_offset), offset, kEnd64Bytes);
  if (!record) return Lie("its zip64 record is not inside the file");
  Fields fields(*record);
  if (fields.Take32() != kEnd64Signature || fields.Take64() != kEnd64Bytes - 12) {
    return Lie("its zip64 record is damaged");
  }
  fields.Skip(4);  // versions
  if (fields.Take32() != 0 || fields.Take32() != 0) return Lie("it is one part of several");
  Directory directory;
  directory.entries = fields.Take64();
  if (fields.Take64() != directory.entries) return Lie("it is one part of several");
  directory.bytes = fields.Take64();
  directory.offset = fields.Take64();
  if (directory.offset > offset || directory.bytes != offset - directory.offset) {
    return Lie("its list of entries does not end where its zip64 record begins");
  }
  return directory;
}

absl::StatusOr<Directory> FindDirectory(std::string_view file) {
  if (absl::StartsWith(file, kLegacyMagic)) {
    return Lie("it is in the format of torch before 1.6, which is not read; load it and save it again with torch.save");
  }
  // Comments are not looked for: torch.save writes none, and one may hold another end record.
  if (file.size() < kEndBytes || Fields(file.substr(file.size() - kEndBytes)).Take32() != kEndSignature) {
    return absl::DataLossError("it does not end as a zip archive does: it is cut off, or no file of torch.save");
  }
  const uint64_t end = file.size() - kEndBytes;
  Fields fields(file.substr(end + 4));
  if (fields.Take16() != 0 || fields.Take16() != 0) return Lie("it is one part of several");
  Directory directory;
  directory.entries = fields.Take16();
  if (fields.Take16() != directory.entries) return Lie("it is one part of several");
  directory.bytes = fields.Take32();
  directory.offset = fields.Take32();
  if (fields.Take16() != 0) return Lie("it has a comment, which torch.save does not write");
  if (end >= kLocator64Bytes && Fields(file.substr(end - kLocator64Bytes)).Take32() == kLocator64Signature) {
    TITAN_ASSIGN_OR_RETURN(const Directory directory64, FindDirectory64(file, end - kLocator64Bytes));
    const bool agrees = (directory.entries == 0xffff || directory.entries == directory64.entries) &&
                        (directory.bytes == kIn64 || directory.bytes == directory64.bytes) &&
                        (directory.offset == kIn64 || directory.offset == directory64.offset);
    if (!agrees) return Lie("its two end records disagree");
    return directory64;
  }
  if (directory.offset > end || directory.bytes != end - directory.offset) {
    return Lie("its list of entries does not end where its end record begins");
  }
  return directory;
}

// Puts the 64-bit values for those of `values` that are kIn64, in their order. They must all be there.
absl::Status ReadExtra64(std::string_view name, std::string_view extra, const std::vector<uint64_t*>& values) {
  Fields fields(extra);
  std::optional<std::string_view> content;
  while (!fields.rest().empty()) {
    if (fields.rest().size() < 4) return EntryLie(name, "its extra fields are cut off");
    const uint16_t id = fields.Take16();
    const uint16_t size = fields.Take16();
    if (size > fields.rest().size()) return EntryLie(name, "its extra fields are cut off");
    if (id == kExtra64) {
      if (content) return EntryLie(name, "two zip64 fields");
      content = fields.rest().substr(0, size);
    }
    fields.Skip(size);
  }
  Fields wide(content.value_or(""));
  for (uint64_t* const value : values) {
    if (*value != kIn64) continue;
    if (wide.rest().size() < 8) return EntryLie(name, "its zip64 field lacks a value");
    *value = wide.Take64();
  }
  return absl::OkStatus();
}

// The next entry of the list, and removes it from `list`. Where its content lies is not known yet.
absl::StatusOr<Entry> TakeEntry(std::string_view& list) {
  if (list.size() < kCentralBytes) return Lie("its list of entries is cut off");
  Fields fields(list);
  if (fields.Take32() != kCentralSignature) return Lie("its list of entries is damaged");
  fields.Skip(4);  // versions
  const uint16_t flags = fields.Take16(), method = fields.Take16();
  fields.Skip(4);  // time and date
  Entry entry;
  entry.crc32 = fields.Take32();
  uint64_t stored_bytes = fields.Take32();
  entry.bytes = fields.Take32();
  const uint64_t name_bytes = fields.Take16(), extra_bytes = fields.Take16(), comment_bytes = fields.Take16();
  const uint16_t disk = fields.Take16();
  fields.Skip(6);  // attributes
  entry.begin = fields.Take32();
  if (name_bytes + extra_bytes + comment_bytes > fields.rest().size()) return Lie("its list of entries is cut off");
  entry.name = std::string(fields.rest().substr(0, name_bytes));
  const std::string_view extra = fields.rest().substr(name_bytes, extra_bytes);
  list = fields.rest().substr(name_bytes + extra_bytes + comment_bytes);
  TITAN_RETURN_IF_ERROR(ReadExtra64(entry.name, extra, {&entry.bytes, &stored_bytes, &entry.begin}));
  if (disk != 0) return EntryLie(entry.name, "it is in another part of several");
  if ((flags & kEncryptedFlag) != 0) return EntryLie(entry.name, "it is encrypted");
  if (method != 0) return EntryLie(entry.name, "it is compressed, which torch.save does not do");
  if (stored_bytes != entry.bytes) return EntryLie(entry.name, "its two sizes disagree");
  return entry;
}

// Where the entry's content lies: behind the local header, which must be of this entry. `limit`: where the list of
// entries begins.
absl::Status FindContent(std::string_view file, uint64_t limit, Entry& entry) {
  const std::string_view before_list = file.substr(0, limit);
  const std::optional<std::string_view> header = Piece(before_list, entry.begin, kLocalBytes);
  if (!header) return EntryLie(entry.name, "its header is not inside the file");
  Fields fields(*header);
  if (fields.Take32() != kLocalSignature) return EntryLie(entry.name, "there is no header where the list says it is");
  fields.Skip(2 + 2);  // version, flags
  const uint16_t method = fields.Take16();
  fields.Skip(4 + 4 + 4 + 4);  // time, checksum and sizes, which a descriptor behind the content may give instead
  const uint64_t name_bytes = fields.Take16(), extra_bytes = fields.Take16();
  const std::optional<std::string_view> name = Piece(before_list, entry.begin + kLocalBytes, name_bytes);
  if (method != 0 || !name || *name != entry.name) return EntryLie(entry.name, "its header and the list disagree");
  entry.data = entry.begin + kLocalBytes + name_bytes + extra_bytes;
  if (!Piece(before_list, entry.data, entry.bytes)) return EntryLie(entry.name, "it is not inside the file");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Entry>> ReadEntries(std::string_view file) {
  TITAN_ASSIGN_OR_RETURN(const Directory directory, FindDirectory(file));
  std::string_view list = file.substr(directory.offset, directory.bytes);
  std::vector<Entry> entries;
  while (!list.empty()) {
    TITAN_ASSIGN_OR_RETURN(Entry entry, TakeEntry(list));
    TITAN_RETURN_IF_ERROR(FindContent(file, directory.offset, entry));
    entries.push_back(std::move(entry));
  }
  if (entries.size() != directory.entries) return Lie("it has another number of entries than it says");
  std::vector<const Entry*> in_order;
  for (const Entry& entry : entries) in_order.push_back(&entry);
  std::sort(in_order.begin(), in_order.end(), [](const Entry* a, const Entry* b) { return a->begin < b->begin; });
  for (size_t i = 1; i < in_order.size(); ++i) {
    if (in_order[i]->begin < in_order[i - 1]->data + in_order[i - 1]->bytes) {
      return EntryLie(in_order[i]->name, absl::StrCat("overlaps \"", absl::CHexEscape(in_order[i - 1]->name), "\""));
    }
  }
  return entries;
}

class MappedZip : public TorchZip {
 public:
  MappedZip(std::string path, void* mapping, size_t bytes)
      : path_(std::move(path)), file_(static_cast<const char*>(mapping), bytes), mapping_(mapping) {}
  ~MappedZip() override { munmap(mapping_, file_.size()); }
  MappedZip(const MappedZip&) = delete;
  MappedZip& operator=(const MappedZip&) = delete;

  absl::Status Parse() {
    TITAN_ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(file_));
    std::optional<std::string> folder;
    for (Entry& entry : entries) {
      const size_t slash = entry.name.find('/');
      if (slash == std::string::npos) return EntryLie(entry.name, "it is in no folder, as all of torch.save are");
      if (folder && *folder != entry.name.substr(0, slash)) return EntryLie(entry.name, "there are two top folders");
      folder = entry.name.substr(0, slash);
      const std::string name = entry.name.substr(slash + 1);
      const auto [at, is_new] = entries_.emplace(name, std::move(entry));
      if (!is_new) return EntryLie(at->second.name, "it is there twice");
    }
    return absl::OkStatus();
  }

  const std::string& path() const override { return path_; }
  bool Has(const std::string& name) const override { return entries_.count(name) > 0; }
  absl::StatusOr<std::string_view> Read(const std::string& name) const override {
    const auto found = entries_.find(name);
    if (found == entries_.end()) {
      return absl::NotFoundError(absl::StrCat(path_, ": has no entry \"", absl::CHexEscape(name), "\""));
    }
    const std::string_view content = file_.substr(found->second.data, found->second.bytes);
    if (ZipCrc32(content) != found->second.crc32) {
      return absl::DataLossError(absl::StrCat(path_, ": entry \"", absl::CHexEscape(found->second.name),
                                              "\" is damaged: its checksum does not match"));
    }
    return content;
  }

 private:
  std::string path_;
  std::string_view file_;
  void* mapping_;
  std::map<std::string, Entry> entries_;  // by name without the top folder
};

absl::StatusOr<std::shared_ptr<MappedZip>> Map(const std::string& path) {
  // Without O_NONBLOCK a named pipe would wait for a writer.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return SystemError(errno, "cannot open", path);
  struct stat info;
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  if (info.st_size == 0) {
    close(descriptor);
    return absl::DataLossError(absl::StrCat(path, ": the file is empty"));
  }
  void* mapping = mmap(nullptr, info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int error = errno;
  close(descriptor);
  if (mapping == MAP_FAILED) return SystemError(error, "cannot map", path);
  return std::make_shared<MappedZip>(path, mapping, info.st_size);
}

// Eight tables, so that eight bytes are taken at a time: tables[k][b] is the remainder of the byte b before k zeros.
using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

constexpr CrcTables MakeCrcTables() {
  CrcTables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = remainder >> 1 ^ ((remainder & 1) != 0 ? 0xedb88320 : 0);
    tables[0][byte] = remainder;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      tables[k][byte] = tables[k - 1][byte] >> 8 ^ tables[0][tables[k - 1][byte] & 255];
    }
  }
  return tables;
}

}  // namespace

uint32_t ZipCrc32(std::string_view bytes) {
  static constexpr CrcTables kTables = MakeCrcTables();
  uint32_t crc = ~uint32_t{0};
  while (bytes.size() >= 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    word ^= crc;
    crc = 0;
    for (int i = 0; i < 8; ++i) crc ^= kTables[7 - i][word >> (8 * i) & 255];
    bytes.remove_prefix(8);
  }
  for (const char byte : bytes) crc = crc >> 8 ^ kTables[0][(crc ^ static_cast<unsigned char>(byte)) & 255];
  return ~crc;
}

absl::StatusOr<std::shared_ptr<const TorchZip>> TorchZip::Open(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<MappedZip> zip, Map(path));
  if (const absl::Status status = zip->Parse(); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  }
  return zip;
}

}  // namespace titan
