// The text files of a checkpoint: index.json, which says where each tensor's pieces are, COMMITTED, which says that the
// checkpoint is complete, and while it is being saved what each writer has written. See docs/checkpoint_format.md. No
// LibTorch here, and no file is touched.

#ifndef TITAN_CHECKPOINT_INDEX_H_
#define TITAN_CHECKPOINT_INDEX_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/checkpoint/box.h"
#include "titan/checkpoint/safetensors.h"

namespace titan {

struct CheckpointIndex {
  // A box of a tensor, which lies in `file`.
  struct Piece {
    std::string file;
    std::vector<int64_t> offsets;
    std::vector<int64_t> shape;
    uint32_t crc32c = 0;   // of its bytes
    std::string key = "";  // its name in the file; empty: the tensor's name

    Box box() const { return {offsets, shape}; }
    const std::string& NameIn(const std::string& tensor) const { return key.empty() ? tensor : key; }
  };
  struct Tensor {
    StoredDtype dtype = StoredDtype::kF32;
    std::vector<int64_t> shape;
    std::vector<Piece> pieces;  // cover every element once
  };
  struct Shard {
    int64_t bytes = 0;           // of the file
    uint32_t header_crc32c = 0;  // of the bytes before the first tensor's
  };

  int64_t step = 0;
  std::map<std::string, Shard> shards;    // by file name
  std::map<std::string, Tensor> tensors;  // by name
};

std::string FormatIndex(const CheckpointIndex& index);

// InvalidArgument with the place, also if pieces do not cover their tensor exactly or name unknown files.
absl::StatusOr<CheckpointIndex> ParseIndex(std::string_view json);

// What one of the ranks that save together has written: its shard, and the pieces in it.
struct CheckpointPart {
  std::string save_id;  // of the save that it belongs to
  int64_t rank = 0;
  CheckpointIndex index;  // of this rank's pieces alone
};

std::string FormatPart(const CheckpointPart& part);

// DataLoss for a text that is cut off or damaged.
absl::StatusOr<CheckpointPart> ParsePart(std::string_view text);

// Adds the files and pieces of `part` to `index`. InvalidArgument if they disagree about a tensor.
absl::Status Merge(const CheckpointIndex& part, CheckpointIndex& index);

// InvalidArgument if the pieces of a tensor do not cover it exactly.
absl::Status CheckComplete(const CheckpointIndex& index);

struct CommittedFile {
  int64_t bytes = 0;
  uint32_t crc32c = 0;
};
using CommittedFiles = std::map<std::string, CommittedFile>;  // by file name

std::string FormatCommitted(const CommittedFiles& files);

// DataLoss for any text that FormatCommitted did not write.
absl::StatusOr<CommittedFiles> ParseCommitted(std::string_view text);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_INDEX_H_
