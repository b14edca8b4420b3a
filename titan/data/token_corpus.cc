#include "titan/data/token_corpus.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/safetensors.h"
#include "titan/data/mapped_file.h"

namespace titan {
namespace {

// Documents that a thread takes at a time, and how many such blocks may be ahead of the writer for each thread.
constexpr int64_t kBlock = 16;
constexpr int64_t kBlocksAhead = 4;

// Some documents, back to back, as they are written.
struct Block {
  std::string ids;             // little-endian
  std::vector<int64_t> sizes;  // of the documents, in ids
};

// The documents of a source, made by several threads and handed out in order.
class ParallelReader {
 public:
  ParallelReader(const DocumentSource& documents, const TokenizerIdentity& tokenizer, int64_t width,
                 int64_t num_threads)
      : documents_(documents),
        tokenizer_(tokenizer),
        width_(width),
        num_blocks_((documents.size() + kBlock - 1) / kBlock),
        max_ahead_(kBlocksAhead * num_threads) {
    for (int64_t i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~ParallelReader() {
    {
      absl::MutexLock lock(mutex_);
      stopping_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  int64_t num_blocks() const { return num_blocks_; }

  // The next block; to be called num_blocks times.
  absl::StatusOr<Block> Next() {
    absl::MutexLock lock(mutex_);
    mutex_.Await(absl::Condition(+[](ParallelReader* self) { return self->done_.count(self->handed_out_) > 0; }, this));
    absl::StatusOr<Block> block = std::move(done_.at(handed_out_));
    done_.erase(handed_out_);
    ++handed_out_;
    return block;
  }

 private:
  bool MayGoOn() const { return stopping_ || next_ == num_blocks_ || next_ < handed_out_ + max_ahead_; }

  // The body of each thread.
  void Work() {
    while (true) {
      int64_t number;
      {
        absl::MutexLock lock(mutex_);
        mutex_.Await(absl::Condition(this, &ParallelReader::MayGoOn));
        if (stopping_ || next_ == num_blocks_) return;
        number = next_++;
      }
      absl::StatusOr<Block> block = MakeOrSayWhyNot(number);
      absl::MutexLock lock(mutex_);
      done_.emplace(number, std::move(block));
    }
  }

  // An exception must not leave the thread.
  absl::StatusOr<Block> MakeOrSayWhyNot(int64_t number) const {
    try {
      return Make(number);
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError(
          absl::StrCat("out of memory near ", documents_.Where(number * kBlock), "; use fewer threads"));
    }
  }

  absl::StatusOr<Block> Make(int64_t number) const {
    Block block;
    const int64_t end = std::min(documents_.size(), (number + 1) * kBlock);
    for (int64_t index = number * kBlock; index < end; ++index) {
      TITAN_ASSIGN_OR_RETURN(const Document document, documents_.Read(index));
      block.sizes.push_back(document.size());
      for (int64_t i = 0; i < document.size(); ++i) {
        const int64_t id = document[i];
        if (id < 0 || id >= tokenizer_.vocab_size) {
          return absl::InvalidArgumentError(absl::StrCat(documents_.Where(index), ": token ", i, " is ", id,
                                                         ", but the tokenizer has ", tokenizer_.vocab_size));
        }
        for (int64_t byte = 0; byte < width_; ++byte) block.ids.push_back(static_cast<char>(id >> (8 * byte)));
      }
    }
    return block;
  }

  const DocumentSource& documents_;
  const TokenizerIdentity& tokenizer_;
  const int64_t width_;
  const int64_t num_blocks_;
  const int64_t max_ahead_;
  absl::Mutex mutex_;
  int64_t next_ ABSL_GUARDED_BY(mutex_) = 0;        // that a thread takes
  int64_t handed_out_ ABSL_GUARDED_BY(mutex_) = 0;  // by Next
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<int64_t, absl::StatusOr<Block>> done_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

// Tokenizes everything into `spool`; where the documents begin in it, and the end.
absl::StatusOr<std::vector<int64_t>> WriteSpool(ParallelReader& reader, const std::string& spool) {
  TITAN_ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(spool));
  std::vector<int64_t> offsets = {0};
  for (int64_t i = 0; i < reader.num_blocks(); ++i) {
    TITAN_ASSIGN_OR_RETURN(const Block block, reader.Next());
    TITAN_RETURN_IF_ERROR(file.Append(block.ids));
    for (const int64_t size : block.sizes) offsets.push_back(offsets.back() + size);
  }
  TITAN_RETURN_IF_ERROR(file.Close());
  return offsets;
}

absl::Span<const std::byte> BytesOf(std::string_view bytes) {
  return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace

absl::StatusOr<TokenCorpus> WriteTokenCorpus(const DocumentSource& documents, const TokenizerIdentity& tokenizer,
                                             const TokenCorpusOptions& options) {
  if (documents.size() == 0) return absl::InvalidArgumentError("there are no documents in the corpus");
  const StoredDtype dtype = tokenizer.vocab_size <= int64_t{1} << 16 ? StoredDtype::kU16 : StoredDtype::kU32;
  const std::string spool = options.path + ".tokens", partial = options.path + ".partial";
  const auto clean_up = absl::MakeCleanup([&] {
    std::error_code ignored;
    std::filesystem::remove(spool, ignored);
    std::filesystem::remove(partial, ignored);
  });
  ParallelReader reader(documents, tokenizer, SizeOf(dtype), options.num_threads);
  TITAN_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets, WriteSpool(reader, spool));
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> tokens, MappedFile::Open(spool));

  // The offsets come first because the tokens may end anywhere, and offsets must be aligned.
  const int64_t num_offsets = offsets.size();
  TITAN_ASSIGN_OR_RETURN(
      SafetensorsWriter writer,
      SafetensorsWriter::Create(
          partial, {{"offsets", StoredDtype::kI64, {num_offsets}}, {"tokens", dtype, {offsets.back()}}},
          {{kTokenizerSha256Key, tokenizer.sha256}, {kVocabSizeKey, absl::StrCat(tokenizer.vocab_size)}}));
  const std::string_view offset_bytes(reinterpret_cast<const char*>(offsets.data()), num_offsets * sizeof(int64_t));
  TITAN_RETURN_IF_ERROR(writer.Append(BytesOf(offset_bytes)));
  TITAN_RETURN_IF_ERROR(writer.Append(BytesOf(tokens->bytes())));
  TITAN_RETURN_IF_ERROR(writer.Close());
  std::error_code error;
  std::filesystem::rename(partial, options.path, error);
  if (error) return SystemError(error.value(), "cannot write", options.path);
  return TokenCorpus{num_offsets - 1, offsets.back(), NameOf(dtype)};
}

}  // namespace titan
