// The parts of pickles that state dicts are made of: for torch_pickle.cc, which reads them, and torch_pickle_writer.cc.

#ifndef TITAN_CHECKPOINT_TORCH_PICKLE_OPS_H_
#define TITAN_CHECKPOINT_TORCH_PICKLE_OPS_H_

#include <string_view>

#include "titan/checkpoint/safetensors.h"

namespace titan {

inline constexpr char kProtocol = 2;  // what torch.save writes unless it is told otherwise

// The instructions that are known.
enum PickleOp : unsigned char {
  kMark = '(',
  kStop = '.',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyList = ']',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
};

inline constexpr std::string_view kOrderedDict = "collections.OrderedDict";
inline constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
inline constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";

struct StorageType {
  std::string_view name;
  StoredDtype dtype;
};

inline constexpr StorageType kStorages[] = {
    {"torch.DoubleStorage", StoredDtype::kF64}, {"torch.FloatStorage", StoredDtype::kF32},
    {"torch.HalfStorage", StoredDtype::kF16},   {"torch.BFloat16Storage", StoredDtype::kBF16},
    {"torch.LongStorage", StoredDtype::kI64},   {"torch.IntStorage", StoredDtype::kI32},
    {"torch.ShortStorage", StoredDtype::kI16},  {"torch.CharStorage", StoredDtype::kI8},
    {"torch.ByteStorage", StoredDtype::kU8},    {"torch.BoolStorage", StoredDtype::kBool},
};

}  // namespace titan

#endif  // TITAN_CHECKPOINT_TORCH_PICKLE_OPS_H_
