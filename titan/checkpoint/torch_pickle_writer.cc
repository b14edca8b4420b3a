#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "titan/checkpoint/torch_pickle.h"
#include "titan/checkpoint/torch_pickle_ops.h"

namespace titan {
namespace {

void AppendLittle(std::string& out, uint64_t value, int size) {
  for (int i = 0; i < size; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

void AppendOp(std::string& out, unsigned char op) { out.push_back(static_cast<char>(op)); }

void AppendInteger(std::string& out, int64_t value) {
  if (value >= 0 && value < 256) {
    AppendOp(out, kBinInt1);
    AppendLittle(out, value, 1);
  } else if (value >= 0 && value < int64_t{1} << 31) {
    AppendOp(out, kBinInt);
    AppendLittle(out, value, 4);
  } else {
    AppendOp(out, kLong1);
    AppendLittle(out, 8, 1);
    AppendLittle(out, value, 8);
  }
}

void AppendText(std::string& out, std::string_view text) {
  AppendOp(out, kBinUnicode);
  AppendLittle(out, text.size(), 4);
  out += text;
}

// `name`: "module.name", of which the last point separates the two.
void AppendName(std::string& out, std::string_view name) {
  const size_t point = name.rfind('.');
  AppendOp(out, kGlobal);
  absl::StrAppend(&out, name.substr(0, point), "\n", name.substr(point + 1), "\n");
}

void AppendTuple(std::string& out, const std::vector<int64_t>& values) {
  AppendOp(out, kMark);
  for (const int64_t value : values) AppendInteger(out, value);
  AppendOp(out, kTuple);
}

void AppendOrderedDict(std::string& out) {
  AppendName(out, kOrderedDict);
  AppendOp(out, kEmptyTuple);
  AppendOp(out, kReduce);
}

}  // namespace

absl::StatusOr<std::string> FormatStatePickle(const std::vector<PickledTensor>& tensors) {
  std::string out = {static_cast<char>(kProto), kProtocol};
  // Not an OrderedDict, which LibTorch's own reader takes for nothing but a tensor's hooks.
  AppendOp(out, kEmptyDict);
  AppendOp(out, kMark);
  for (const PickledTensor& tensor : tensors) {
    const StorageType* type = nullptr;
    for (const StorageType& known : kStorages) {
      if (known.dtype == tensor.dtype) type = &known;
    }
    if (type == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", absl::CHexEscape(tensor.name),
                                                     "\": torch has no storage for ", NameOf(tensor.dtype)));
    }
    AppendText(out, tensor.name);
    AppendName(out, kRebuildTensor);
    AppendOp(out, kMark);
    AppendOp(out, kMark);
    AppendText(out, "storage");
    AppendName(out, type->name);
    AppendText(out, tensor.storage);
    AppendText(out, "cpu");
    AppendInteger(out, tensor.storage_elements);
    AppendOp(out, kTuple);
    AppendOp(out, kBinPersId);
    AppendInteger(out, tensor.offset);
    AppendTuple(out, tensor.sizes);
    AppendTuple(out, tensor.strides);
    AppendOp(out, kNewFalse);
    AppendOrderedDict(out);
    AppendOp(out, kTuple);
    AppendOp(out, kReduce);
  }
  AppendOp(out, kSetItems);
  AppendOp(out, kStop);
  return out;
}

}  // namespace titan
