// The outer shell of what torch.save writes: a zip archive whose entries are stored as they are, without compression.
// The file is mapped and never copied. Whatever is read from it is compared with its checksum; an archive that lies
// (cut off, overlapping or compressed entries, sizes that disagree, a name twice) is an error that says where, never a
// crash. No LibTorch here; torch_file.h turns entries into at::Tensor.
//
//   TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const TorchZip> zip, TorchZip::Open("model.pt"));
//   TITAN_ASSIGN_OR_RETURN(const std::string_view pickle, zip->Read("data.pkl"));
//
// Format: APPNOTE.TXT of PKWARE, 4.3.6 to 4.3.16, with zip64.

#ifndef TITAN_CHECKPOINT_TORCH_ZIP_H_
#define TITAN_CHECKPOINT_TORCH_ZIP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

class TorchZip {
 public:
  // InvalidArgument / DataLoss with the path and the reason; NotFound if there is no such file. The file must not be
  // cut short by anyone while it is open.
  static absl::StatusOr<std::shared_ptr<const TorchZip>> Open(const std::string& path);

  virtual ~TorchZip() = default;

  virtual const std::string& path() const = 0;
  virtual bool Has(const std::string& name) const = 0;
  // The bytes of an entry by its name below the archive's one folder ("data.pkl", "data/0"), alive as long as the
  // archive; any alignment. NotFound; DataLoss if they do not match their checksum.
  virtual absl::StatusOr<std::string_view> Read(const std::string& name) const = 0;
};

// CRC-32 as in zip, gzip and PNG.
uint32_t ZipCrc32(std::string_view bytes);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_TORCH_ZIP_H_
