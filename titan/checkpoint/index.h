// The text files of a checkpoint: index.json, which says where each tensor's pieces are, and COMMITTED, which says that
// the checkpoint is complete. See docs/checkpoint_format.md. No LibTorch here, and no file is touched.

#ifndef TITAN_CHECKPOINT_INDEX_H_
#define TITAN_CHECKPOINT_INDEX_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/checkpoint/safetensors.h"

namespace titan {

struct CheckpointIndex {
  // A box of a tensor: elements [offsets, offsets + shape) in every dimension. It lies in `file` under the tensor's
  // name.
  struct Piece {
    std::string file;
    std::vector<int64_t> offsets;
    std::vector<int64_t> shape;
    uint32_t crc32c = 0;  // of its bytes
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
