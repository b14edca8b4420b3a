#include "titan/data/foreign_texts.h"

#include <arrow/array.h>
#include <arrow/io/compressed.h>
#include <arrow/io/file.h>
#include <arrow/ipc/reader.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/compression.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>
#include <parquet/metadata.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/data/text_source.h"

namespace titan {
namespace {

using Add = std::function<absl::Status(std::string_view text)>;

constexpr int64_t kChunk = 1 << 20;
constexpr size_t kMaxDocument = size_t{1} << 30;
constexpr std::string_view kGzipMagic = "\x1f\x8b", kZstdMagic = "\x28\xb5\x2f\xfd", kArrowFileMagic = "ARROW1";

absl::Status FromArrow(const arrow::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const auto& detail = status.detail();  // such as the system's reason
  return absl::InvalidArgumentError(detail ? absl::StrCat(status.message(), ": ", detail->ToString())
                                           : status.message());
}

template <typename T>
absl::StatusOr<T> FromArrow(arrow::Result<T> result) {
  if (!result.ok()) return FromArrow(result.status());
  return std::move(result).ValueUnsafe();
}

// The file's bytes, decompressed if need be.
absl::StatusOr<std::shared_ptr<arrow::io::InputStream>> OpenBytes(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const auto file, FromArrow(arrow::io::ReadableFile::Open(path)));
  TITAN_ASSIGN_OR_RETURN(const int64_t size, FromArrow(file->GetSize()));
  if (size == 0) return absl::InvalidArgumentError("the file is empty");
  TITAN_ASSIGN_OR_RETURN(const auto head, FromArrow(file->ReadAt(0, 4)));
  TITAN_RETURN_IF_ERROR(FromArrow(file->Seek(0)));
  const std::string_view magic(*head);
  const bool is_gzip = absl::StartsWith(magic, kGzipMagic), is_zstd = absl::StartsWith(magic, kZstdMagic);
  if (absl::EndsWith(path, ".gz") && !is_gzip) return absl::InvalidArgumentError("not a gzip file, as its name says");
  if (absl::EndsWith(path, ".zst") && !is_zstd)
    return absl::InvalidArgumentError("not a Zstandard file, as its name says");
  if (!is_gzip && !is_zstd) return file;
  TITAN_ASSIGN_OR_RETURN(
      std::shared_ptr<arrow::util::Codec> codec,
      FromArrow(arrow::util::Codec::Create(is_gzip ? arrow::Compression::GZIP : arrow::Compression::ZSTD)));
  // The stream keeps a plain pointer to its codec.
  TITAN_ASSIGN_OR_RETURN(const auto stream, FromArrow(arrow::io::CompressedInputStream::Make(codec.get(), file)));
  return std::shared_ptr<arrow::io::InputStream>(stream.get(), [codec, stream](arrow::io::InputStream*) {});
}

absl::Status TooLarge() { return absl::InvalidArgumentError("a document of more than 1 GiB"); }

absl::Status ReadText(arrow::io::InputStream& bytes, const Add& add) {
  std::string text;
  while (true) {
    TITAN_ASSIGN_OR_RETURN(const auto chunk, FromArrow(bytes.Read(kChunk)));
    if (chunk->size() == 0) return add(text);
    text.append(std::string_view(*chunk));
    if (text.size() > kMaxDocument) return TooLarge();
  }
}

absl::Status AddLine(std::string_view line, int64_t number, const std::string& text_field, const Add& add) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return absl::OkStatus();
  const absl::StatusOr<std::string> text = TextOfJsonLine(line, text_field);
  const absl::Status status = text.ok() ? add(*text) : text.status();
  return status.ok() ? status : WithContext(absl::StrCat("line ", number), status);
}

absl::Status ReadJsonl(arrow::io::InputStream& bytes, const std::string& text_field, const Add& add) {
  std::string rest;  // a line whose end has not been read
  for (int64_t number = 1;;) {
    TITAN_ASSIGN_OR_RETURN(const auto chunk, FromArrow(bytes.Read(kChunk)));
    if (chunk->size() == 0) return AddLine(rest, number, text_field, add);
    std::string_view left(*chunk);
    for (size_t end; (end = left.find('\n')) != std::string_view::npos; left.remove_prefix(end + 1), ++number) {
      const std::string_view piece = left.substr(0, end);
      if (rest.empty()) {
        TITAN_RETURN_IF_ERROR(AddLine(piece, number, text_field, add));
      } else {
        rest.append(piece);
        TITAN_RETURN_IF_ERROR(AddLine(rest, number, text_field, add));
        rest.clear();
      }
    }
    rest.append(left);
    if (rest.size() > kMaxDocument) return WithContext(absl::StrCat("line ", number), TooLarge());
  }
}

// The number of the column, which must hold strings.
absl::StatusOr<int> ColumnOf(const arrow::Schema& schema, const std::string& name) {
  const std::vector<int> found = schema.GetAllFieldIndices(name);
  if (found.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(found.empty() ? "no column \"" : "more than one column \"", name,
                     "\" (text_field); there are: ", absl::StrJoin(schema.field_names(), ", ")));
  }
  const arrow::DataType* type = schema.field(found[0])->type().get();
  if (type->id() == arrow::Type::DICTIONARY) type = static_cast<const arrow::DictionaryType*>(type)->value_type().get();
  if (type->id() != arrow::Type::STRING && type->id() != arrow::Type::LARGE_STRING &&
      type->id() != arrow::Type::STRING_VIEW) {
    return absl::InvalidArgumentError(absl::StrCat("column \"", name, "\" (text_field) holds ",
                                                   schema.field(found[0])->type()->ToString(),
                                                   ", which are no strings"));
  }
  return found[0];
}

std::string_view StringAt(const arrow::Array& array, int64_t i) {
  switch (array.type_id()) {
    case arrow::Type::STRING:
      return static_cast<const arrow::StringArray&>(array).GetView(i);
    case arrow::Type::LARGE_STRING:
      return static_cast<const arrow::LargeStringArray&>(array).GetView(i);
    default:
      return static_cast<const arrow::StringViewArray&>(array).GetView(i);
  }
}

// The texts of all batches.
absl::Status ReadBatches(arrow::RecordBatchReader& reader, const std::string& text_field, const Add& add) {
  TITAN_ASSIGN_OR_RETURN(const int column, ColumnOf(*reader.schema(), text_field));
  int64_t row = 0;
  while (true) {
    TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<arrow::RecordBatch> batch, FromArrow(reader.Next()));
    if (batch == nullptr) return absl::OkStatus();
    // What the file says of lengths and places inside the batch is not to be trusted.
    TITAN_RETURN_IF_ERROR(FromArrow(batch->ValidateFull()));
    const arrow::Array& array = *batch->column(column);
    const auto* dictionary =
        array.type_id() == arrow::Type::DICTIONARY ? &static_cast<const arrow::DictionaryArray&>(array) : nullptr;
    for (int64_t i = 0; i < array.length(); ++i, ++row) {
      const arrow::Array& values = dictionary ? *dictionary->dictionary() : array;
      if (array.IsNull(i) || (dictionary && values.IsNull(dictionary->GetValueIndex(i)))) {
        return absl::InvalidArgumentError(absl::StrCat("row ", row, ": no text, but null"));
      }
      const absl::Status added = add(StringAt(values, dictionary ? dictionary->GetValueIndex(i) : i));
      if (!added.ok()) return WithContext(absl::StrCat("row ", row), added);
    }
  }
}

absl::Status ReadParquet(const std::string& path, const std::string& text_field, const Add& add) {
  parquet::arrow::FileReaderBuilder builder;
  TITAN_RETURN_IF_ERROR(FromArrow(builder.OpenFile(path, /*memory_map=*/true)));
  std::unique_ptr<parquet::arrow::FileReader> reader;
  TITAN_ASSIGN_OR_RETURN(reader, FromArrow(builder.Build()));
  std::shared_ptr<arrow::Schema> schema;
  TITAN_RETURN_IF_ERROR(FromArrow(reader->GetSchema(&schema)));
  TITAN_RETURN_IF_ERROR(ColumnOf(*schema, text_field).status());
  const int leaf = reader->parquet_reader()->metadata()->schema()->ColumnIndex(text_field);
  if (leaf < 0)
    return absl::InvalidArgumentError(absl::StrCat("the schemas do not agree on column \"", text_field, "\""));
  std::vector<int> groups(reader->num_row_groups());
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int>(i);
  TITAN_ASSIGN_OR_RETURN(const auto batches, FromArrow(reader->GetRecordBatchReader(groups, {leaf})));
  return ReadBatches(*batches, text_field, add);
}

// Gives the batches of a file as those of a stream.
class FileBatches : public arrow::RecordBatchReader {
 public:
  explicit FileBatches(std::shared_ptr<arrow::ipc::RecordBatchFileReader> file) : file_(std::move(file)) {}
  std::shared_ptr<arrow::Schema> schema() const override { return file_->schema(); }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    if (next_ == file_->num_record_batches()) {
      batch->reset();
      return arrow::Status::OK();
    }
    return file_->ReadRecordBatch(next_++).Value(batch);
  }

 private:
  const std::shared_ptr<arrow::ipc::RecordBatchFileReader> file_;
  int next_ = 0;
};

absl::Status ReadArrow(const std::string& path, const std::string& text_field, const Add& add) {
  TITAN_ASSIGN_OR_RETURN(const auto file,
                         FromArrow(arrow::io::MemoryMappedFile::Open(path, arrow::io::FileMode::READ)));
  TITAN_ASSIGN_OR_RETURN(const auto head, FromArrow(file->ReadAt(0, kArrowFileMagic.size())));
  if (std::string_view(*head) == kArrowFileMagic) {
    TITAN_ASSIGN_OR_RETURN(auto reader, FromArrow(arrow::ipc::RecordBatchFileReader::Open(file)));
    FileBatches batches(std::move(reader));
    return ReadBatches(batches, text_field, add);
  }
  TITAN_ASSIGN_OR_RETURN(const auto batches, FromArrow(arrow::ipc::RecordBatchStreamReader::Open(file)));
  return ReadBatches(*batches, text_field, add);
}

absl::Status Read(const std::string& path, ForeignFormat format, const std::string& text_field, const Add& add) {
  if (format == ForeignFormat::kParquet) return ReadParquet(path, text_field, add);
  if (format == ForeignFormat::kArrow) return ReadArrow(path, text_field, add);
  TITAN_ASSIGN_OR_RETURN(const auto bytes, OpenBytes(path));
  return format == ForeignFormat::kText ? ReadText(*bytes, add) : ReadJsonl(*bytes, text_field, add);
}

}  // namespace

absl::StatusOr<ForeignFormat> ForeignFormatOf(const std::string& path, const std::string& format) {
  struct Known {
    std::string_view name;
    ForeignFormat format;
    std::vector<std::string_view> endings;
  };
  static const auto* const known = new std::vector<Known>{
      {"jsonl", ForeignFormat::kJsonl, {".jsonl", ".json", ".ndjson"}},
      {"text", ForeignFormat::kText, {".txt", ".text"}},
      {"parquet", ForeignFormat::kParquet, {".parquet"}},
      {"arrow", ForeignFormat::kArrow, {".arrow"}},
  };
  std::string_view name = path;
  for (const std::string_view ending : {".gz", ".zst"}) {
    if (absl::EndsWith(name, ending)) name.remove_suffix(ending.size());
  }
  std::vector<std::string_view> names;
  for (const Known& candidate : *known) {
    if (format == candidate.name) return candidate.format;
    names.push_back(candidate.name);
    if (format != "auto") continue;
    for (const std::string_view ending : candidate.endings) {
      if (absl::EndsWith(name, ending)) return candidate.format;
    }
  }
  return absl::InvalidArgumentError(
      format == "auto"
          ? absl::StrCat(path, ": its name does not tell its format; name one: ", absl::StrJoin(names, ", "))
          : absl::StrCat("format \"", format, "\" is none of auto, ", absl::StrJoin(names, ", ")));
}

absl::Status ReadForeignTexts(const std::string& path, const ForeignTextOptions& options, const Add& add) {
  TITAN_ASSIGN_OR_RETURN(const ForeignFormat format, ForeignFormatOf(path, options.format));
  try {
    return WithContext(path, Read(path, format, options.text_field, add));
  } catch (const std::exception& error) {  // Parquet's readers report damage so
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
}

}  // namespace titan
