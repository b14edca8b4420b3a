// The training data as a stream of packed batches that depends on (configuration, files) alone and can be continued
// exactly. No LibTorch here: a batch is plain arrays.
//
//   absl::StatusOr<std::unique_ptr<Loader>> loader = Loader::Create(experiment, files);
//   absl::StatusOr<Batch> batch = (*loader)->Next();       // step 0
//   std::string state = (*loader)->State();                // goes into a checkpoint
//   (*loader)->Restore(state);                             // the next batch is step 1 again

#ifndef TITAN_DATA_LOADER_H_
#define TITAN_DATA_LOADER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// A generated message: its header is expensive, so that only the sources that look inside include it.
namespace titan::config {
class Experiment;
}

namespace titan {

// The sequences of one optimizer step: `rows` packed rows of `seq_len` tokens each, row by row.
struct Batch {
  int64_t rows = 0;
  int64_t seq_len = 0;
  std::vector<int64_t> tokens;     // (rows, seq_len)
  std::vector<int64_t> labels;     // (rows, seq_len): the next token of the same document, or -100
  std::vector<int64_t> positions;  // (rows, seq_len): 0 where a document (or its part in this row) starts
  int64_t valid_tokens = 0;        // labels that are not -100

  // Copies rows [begin, end).
  Batch Slice(int64_t begin, int64_t end) const;
};

// Where the files are on this machine. The bundle's data manifest fills it in.
struct DataFiles {
  std::string tokenizer;                                    // tokenizer.json; empty when every source holds tokens
  std::map<std::string, std::vector<std::string>> corpora;  // corpus name -> files, in the manifest's order
};

struct LoaderOptions {
  // What is left when a corpus ends that is not repeated is a batch, too: it is filled up with padding, which has no
  // labels. Otherwise it is dropped.
  bool pads = false;
  // Of data.sources, the documents that they hold out for validation, and no others. Otherwise all but these.
  bool reads_held_out = false;
  // Of the thread that makes batches, in a log of spans. It lives as long as the program.
  const char* thread_name = "loader";
};

class Loader {
 public:
  virtual ~Loader() = default;

  // Errors name the source, the file and the line.
  static absl::StatusOr<std::unique_ptr<Loader>> Create(const config::Experiment& experiment, const DataFiles& files,
                                                        const LoaderOptions& options = {});

  // The global batch of the next step: training.global_batch_size rows (local_batch_size when that is -1).
  // OutOfRange when the corpus has ended and data.repeat is false, ResourceExhausted when memory does not hold the
  // batch.
  virtual absl::StatusOr<Batch> Next() = 0;

  // What Restore needs to continue exactly after the last batch that Next returned: a small JSON object.
  virtual std::string State() const = 0;
  // InvalidArgument if the state was made by another configuration or other files.
  virtual absl::Status Restore(const std::string& state) = 0;
};

}  // namespace titan

#endif  // TITAN_DATA_LOADER_H_
