#include "titan/data/loader.h"

#include <sched.h>

#include <algorithm>
#include <deque>
#include <new>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "nlohmann/json.hpp"
#include "titan/base/sha256.h"
#include "titan/base/span.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/config/experiment.pb.h"
#include "titan/data/document_source.h"
#include "titan/data/json.h"
#include "titan/data/packer.h"
#include "titan/data/shuffle_window.h"
#include "titan/data/split_source.h"
#include "titan/data/text_formats.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

constexpr int64_t kStateVersion = 1;
constexpr char kSynthetic[] = "synthetic";

// What decides the stream of documents: a state only fits the same.
struct StreamIdentity {
  std::string files;      // digest of the sources
  std::string tokenizer;  // digest of tokenizer.json; empty without one
  bool shuffle;
  uint64_t seed;
  int64_t shuffle_window;
};

// Where there are more threads than cores, a thread that wakes up takes the core of the one that has woken it. Whoever
// has taken a batch must not wait until the next one is made: this thread gets as much of the cores as before, but no
// sooner.
void YieldToWaker() {
  const sched_param none = {};
  (void)sched_setscheduler(/*pid: this thread*/ 0, SCHED_BATCH, &none);
}

// Makes batches ahead of their use, in a thread of its own.
class PrefetchingLoader : public Loader {
 public:
  PrefetchingLoader(std::unique_ptr<DocumentSource> documents, const PackerOptions& options, StreamIdentity identity,
                    int64_t rows, int64_t seq_len, int64_t num_prefetch_batches, const char* thread_name)
      : documents_(std::move(documents)),
        packer_(documents_.get(), options),
        pads_(options.pads),
        identity_(std::move(identity)),
        rows_(rows),
        seq_len_(seq_len),
        num_prefetch_batches_(num_prefetch_batches),
        thread_name_(thread_name) {
    Start();
  }

  ~PrefetchingLoader() override { Stop(); }

  absl::StatusOr<Batch> Next() override {
    absl::MutexLock lock(mutex_);
    mutex_.Await(absl::Condition(+[](PrefetchingLoader* self) { return !self->ready_.empty(); }, this));
    if (!ready_.front().batch.ok()) return ready_.front().batch.status();  // and stays: nothing comes after it
    Prepared next = std::move(ready_.front());
    ready_.pop_front();
    consumed_ = next.after;
    return std::move(next.batch);
  }

  std::string State() const override {
    nlohmann::json state = {{"version", kStateVersion},         {"files", identity_.files},
                            {"tokenizer", identity_.tokenizer}, {"shuffle", identity_.shuffle},
                            {"seed", identity_.seed},           {"epoch", consumed_.epoch},
                            {"document", consumed_.document},   {"offset", consumed_.offset}};
    if (identity_.shuffle_window > 0) state["shuffle_window"] = identity_.shuffle_window;
    return state.dump();
  }

  absl::Status Restore(const std::string& state) override {
    TITAN_ASSIGN_OR_RETURN(const StreamPosition position, ReadState(state));
    Stop();
    ready_.clear();
    consumed_ = position;
    packer_.Seek(position);
    Start();
    return absl::OkStatus();
  }

 private:
  struct Prepared {
    absl::StatusOr<Batch> batch;
    StreamPosition after;
  };

  void Start() {
    stopping_ = false;
    thread_ = std::thread([this] { Prefetch(); });
  }

  void Stop() {
    {
      absl::MutexLock lock(mutex_);
      stopping_ = true;
    }
    thread_.join();
  }

  bool HasRoomOrStops() const { return stopping_ || static_cast<int64_t>(ready_.size()) < num_prefetch_batches_; }

  // The thread's body. Only it uses packer_ while it runs.
  void Prefetch() {
    NameThread(thread_name_);
    YieldToWaker();
    while (true) {
      absl::StatusOr<Batch> batch = MakeBatchOrSayWhyNot();
      Prepared next = {std::move(batch), packer_.position()};
      const bool is_last = !next.batch.ok();
      absl::MutexLock lock(mutex_);
      mutex_.Await(absl::Condition(this, &PrefetchingLoader::HasRoomOrStops));
      if (stopping_) return;
      ready_.push_back(std::move(next));
      if (is_last) return;
    }
  }

  // An exception must not leave the thread.
  absl::StatusOr<Batch> MakeBatchOrSayWhyNot() {
    try {
      return MakeBatch();
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "out of memory for the next batch: ", rows_, " x ", seq_len_,
          " tokens of 24 bytes. Lower training.global_batch_size, training.seq_len or data.num_prefetch_batches."));
    }
  }

  absl::StatusOr<Batch> MakeBatch() {
    const Span span("make batch");
    Batch batch;
    batch.rows = rows_;
    batch.seq_len = seq_len_;
    for (std::vector<int64_t>* values : {&batch.tokens, &batch.labels, &batch.positions}) {
      values->resize(rows_ * seq_len_);
    }
    const auto row = [&](std::vector<int64_t>& values, int64_t r) {
      return absl::MakeSpan(values).subspan(r * seq_len_, seq_len_);
    };
    for (int64_t r = 0; r < rows_; ++r) {
      const absl::Status status = packer_.NextRow(row(batch.tokens, r), row(batch.labels, r), row(batch.positions, r));
      if (absl::IsOutOfRange(status) && pads_ && r > 0) {
        Pad(0, row(batch.tokens, r), row(batch.labels, r), row(batch.positions, r));
      } else if (!status.ok()) {
        return status;
      }
    }
    batch.valid_tokens = rows_ * seq_len_;  // every packed token has a label
    if (pads_) batch.valid_tokens -= std::count(batch.labels.begin(), batch.labels.end(), -100);
    return batch;
  }

  absl::StatusOr<StreamPosition> ReadState(const std::string& text) const {
    const absl::StatusOr<nlohmann::json> json = ParseJson(text);
    if (!json.ok()) return absl::InvalidArgumentError(absl::StrCat("data state: ", json.status().message()));
    if (Member(*json, "version") != kStateVersion) {
      return absl::InvalidArgumentError(absl::StrCat("data state: \"version\" must be ", kStateVersion));
    }
    const auto differs = [](std::string_view what) {
      return absl::InvalidArgumentError(
          absl::StrCat("the data position cannot be restored: it was saved with ", what,
                       ". Continue with the same, or start a new run from the weights (checkpoint.initial_load_path)"));
    };
    if (Member(*json, "files") != identity_.files) return differs("other corpus files or formats");
    if (Member(*json, "tokenizer") != identity_.tokenizer) return differs("another tokenizer");
    if (Member(*json, "shuffle") != identity_.shuffle) return differs("another data.shuffle");
    if (Member(*json, "seed") != identity_.seed) return differs("another data.seed");
    const nlohmann::json& window = Member(*json, "shuffle_window");
    if (window.is_null() ? identity_.shuffle_window > 0 : window != identity_.shuffle_window) {
      return differs("another data.shuffle_window");
    }
    StreamPosition position;
    TITAN_ASSIGN_OR_RETURN(position.epoch, IntegerMember(*json, "epoch"));
    TITAN_ASSIGN_OR_RETURN(position.document, IntegerMember(*json, "document"));
    TITAN_ASSIGN_OR_RETURN(position.offset, IntegerMember(*json, "offset"));
    if (position.document > documents_->size()) {
      return absl::InvalidArgumentError("data state: \"document\" is beyond the corpus");
    }
    return position;
  }

  const std::unique_ptr<DocumentSource> documents_;
  Packer packer_;
  const bool pads_;
  const StreamIdentity identity_;
  const int64_t rows_;
  const int64_t seq_len_;
  const int64_t num_prefetch_batches_;
  const char* const thread_name_;

  StreamPosition consumed_;  // after the last batch that Next returned
  absl::Mutex mutex_;
  std::deque<Prepared> ready_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

bool HasSyntheticSource(const config::Data& data) {
  for (const config::Source& source : data.sources()) {
    if (source.corpus() == kSynthetic) return true;
  }
  return false;
}

// The experiment's tokenizer; null, and without a digest, if it has none.
struct LoadedTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  TokenizerIdentity identity;  // with the model's vocabulary
};

absl::StatusOr<std::unique_ptr<DocumentSource>> OpenSource(const config::Source& source,
                                                           const std::vector<std::string>& files,
                                                           const LoadedTokenizer& loaded) {
  if (source.format() == config::Source::FORMAT_TOKENS) return OpenTokenFiles(files, loaded.identity);
  if (loaded.tokenizer == nullptr) return absl::InvalidArgumentError("the experiment has text but no tokenizer");
  TITAN_ASSIGN_OR_RETURN(std::unique_ptr<TextSource> texts, OpenTexts(source, files));
  return Tokenized(std::move(texts), loaded.tokenizer);
}

// Weights that are all 1, as they are by default, make one corpus of all sources.
bool IsMixed(const config::Data& data) {
  for (const config::Source& source : data.sources()) {
    if (source.weight() != 1) return data.sources_size() > 1;
  }
  return false;
}

bool HasWindow(const config::Data& data) { return data.shuffle() && data.shuffle_window() > 0; }

// Of the sources, opened one by one, the documents that each draws next: by the weights, or of all of them by a window,
// or, where the packer says in which order, all of them one after the other.
absl::StatusOr<std::unique_ptr<DocumentSource>> Combined(const config::Data& data,
                                                         std::vector<std::unique_ptr<DocumentSource>> opened) {
  const auto windowed = [&](std::unique_ptr<DocumentSource> source, uint64_t seed) {
    return Windowed(std::move(source), {.window = data.shuffle_window(), .seed = seed, .repeat = data.repeat()});
  };
  if (!IsMixed(data)) {
    std::unique_ptr<DocumentSource> all = Concatenated(std::move(opened));
    if (!HasWindow(data)) return all;
    return windowed(std::move(all), data.seed());
  }
  std::vector<WeightedSource> weighted;
  for (int i = 0; i < data.sources_size(); ++i) {
    if (HasWindow(data)) {
      TITAN_ASSIGN_OR_RETURN(opened[i], windowed(std::move(opened[i]), data.seed() + static_cast<uint64_t>(i)));
    }
    weighted.push_back({std::move(opened[i]), data.sources(i).weight()});
  }
  return Mixed(std::move(weighted), {data.shuffle() && !HasWindow(data), data.seed(), data.repeat()});
}

// All sources of the experiment that name files. Of held-out documents, those of the sources that hold out any.
absl::StatusOr<std::unique_ptr<DocumentSource>> OpenSources(const config::Data& data, const DataFiles& files,
                                                            const LoadedTokenizer& tokenizer, CorpusPart part) {
  std::vector<std::unique_ptr<DocumentSource>> opened;
  for (const config::Source& source : data.sources()) {
    const Holdout holdout = {source.validation_split(), source.validation_documents(), data.validation_seed()};
    if (part == CorpusPart::kHeldOut && holdout.is_nothing()) continue;
    const auto error = [&](const absl::Status& status) {
      return WithContext(absl::StrCat("data source \"", source.corpus(), "\""), status);
    };
    const auto found = files.corpora.find(source.corpus());
    if (found == files.corpora.end() || found->second.empty()) {
      return error(absl::NotFoundError("no files; the build target's `corpora` must bind this name to some"));
    }
    absl::StatusOr<std::unique_ptr<DocumentSource>> documents = OpenSource(source, found->second, tokenizer);
    if (!documents.ok()) return error(documents.status());
    if ((*documents)->size() == 0) return error(absl::InvalidArgumentError("there are no documents in its files"));
    documents = PartOf(*std::move(documents), holdout, part);
    if (!documents.ok()) return error(documents.status());
    opened.push_back(*std::move(documents));
  }
  if (part == CorpusPart::kTraining) return Combined(data, std::move(opened));
  if (opened.empty()) {
    return absl::InvalidArgumentError(
        "none of data.sources holds out documents; set validation_split or validation_documents of one");
  }
  return Concatenated(std::move(opened));
}

// A digest of the files and of how they are read.
std::string SourcesDigest(const config::Data& data, const DocumentSource& documents) {
  std::string text = documents.fingerprint();
  for (const config::Source& source : data.sources()) {
    absl::StrAppend(&text, "\n", static_cast<int>(source.format()), " ", source.text_field());
  }
  return Sha256Hex(text);
}

absl::StatusOr<LoadedTokenizer> LoadTokenizer(const DataFiles& files, int64_t vocab_size) {
  LoadedTokenizer loaded = {nullptr, {"", vocab_size}};
  if (files.tokenizer.empty()) return loaded;
  TITAN_ASSIGN_OR_RETURN(loaded.tokenizer, Tokenizer::Load(files.tokenizer));
  if (loaded.tokenizer->vocab_size() > vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat("model.vocab_size is ", vocab_size, ", but ids of ", files.tokenizer,
                                                   " go to ", loaded.tokenizer->vocab_size() - 1));
  }
  TITAN_ASSIGN_OR_RETURN(loaded.identity.sha256, Sha256OfFile(files.tokenizer));
  return loaded;
}

}  // namespace

Batch Batch::Slice(int64_t begin, int64_t end) const {
  const auto slice = [&](const std::vector<int64_t>& values) {
    return std::vector<int64_t>(values.begin() + begin * seq_len, values.begin() + end * seq_len);
  };
  Batch result = {end - begin, seq_len, slice(tokens), slice(labels), slice(positions), 0};
  for (const int64_t label : result.labels) result.valid_tokens += label != -100;
  return result;
}

absl::StatusOr<std::unique_ptr<Loader>> Loader::Create(const config::Experiment& experiment, const DataFiles& files,
                                                       const LoaderOptions& options) {
  const config::Data& data = experiment.data();
  const config::Training& training = experiment.training();
  const int64_t vocab_size = experiment.model().vocab_size();
  StreamIdentity identity = {"", "", data.shuffle(), data.seed(), HasWindow(data) ? data.shuffle_window() : 0};
  std::unique_ptr<DocumentSource> documents;
  if (HasSyntheticSource(data)) {
    if (data.sources_size() != 1) {
      return absl::InvalidArgumentError("data.sources: \"synthetic\" cannot be mixed with other sources");
    }
    documents = SyntheticDocuments(vocab_size, training.seq_len() + 1, data.seed());
  } else {
    TITAN_ASSIGN_OR_RETURN(const LoadedTokenizer tokenizer, LoadTokenizer(files, vocab_size));
    identity.tokenizer = tokenizer.identity.sha256;
    const CorpusPart part = options.reads_held_out ? CorpusPart::kHeldOut : CorpusPart::kTraining;
    TITAN_ASSIGN_OR_RETURN(documents, OpenSources(data, files, tokenizer, part));
  }
  identity.files = SourcesDigest(data, *documents);
  const int64_t rows = training.global_batch_size() > 0 ? training.global_batch_size() : training.local_batch_size();
  // A mixture comes shuffled, and so does what goes through a window.
  const bool shuffle = data.shuffle() && !IsMixed(data) && identity.shuffle_window == 0;
  const PackerOptions packing = {vocab_size, shuffle, data.seed(), data.repeat(), options.pads};
  return std::make_unique<PrefetchingLoader>(std::move(documents), packing, std::move(identity), rows,
                                             training.seq_len(), data.num_prefetch_batches(), options.thread_name);
}

}  // namespace titan
