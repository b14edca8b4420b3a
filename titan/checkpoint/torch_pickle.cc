#include "titan/checkpoint/torch_pickle.h"

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/torch_pickle_ops.h"

namespace titan {
namespace {

// A state dict has about 300 bytes for each tensor; what is made of them here, ten times as many.
constexpr size_t kMaxPickleBytes = 32'000'000;
constexpr size_t kMaxDimensions = 16;

struct OpName {
  unsigned char op;
  const char* name;
};

// Of instructions that are refused.
constexpr OpName kRefused[] = {
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'L', "LONG"},
    {'P', "PERSID"},
    {'S', "STRING"},
    {'T', "BINSTRING"},
    {'U', "SHORT_BINSTRING"},
    {'V', "UNICODE"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {'d', "DICT"},
    {'g', "GET"},
    {'i', "INST"},
    {'l', "LIST"},
    {'o', "OBJ"},
    {'p', "PUT"},
    {0x81, "NEWOBJ"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x8b, "LONG4"},
    {0x8c, "SHORT_BINUNICODE"},
    {0x8d, "BINUNICODE8"},
    {0x8e, "BINBYTES8"},
    {0x8f, "EMPTY_SET"},
    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},
    {0x92, "NEWOBJ_EX"},
    {0x93, "STACK_GLOBAL"},
    {0x94, "MEMOIZE"},
    {0x95, "FRAME"},
    {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"},
    {0x98, "READONLY_BUFFER"},
};

std::optional<StoredDtype> DtypeOfStorage(std::string_view name) {
  for (const StorageType& type : kStorages) {
    if (type.name == name) return type.dtype;
  }
  return std::nullopt;
}

// What an instruction has made. Containers hold the numbers of values, so that one that holds itself needs no care:
// nothing here looks deeper than it must.
struct Value {
  enum Kind { kNothing, kBool, kInteger, kReal, kText, kTuple, kList, kDict, kName, kStorage, kTensor };
  Kind kind = kNothing;
  int64_t integer = 0;             // also of kBool; of kStorage and kTensor: into the machine's tensors
  std::string text = {};           // of kText and kName
  std::vector<size_t> items = {};  // of kTuple, kList; of kDict: key, value, key, value, ...
};

std::string KindName(Value::Kind kind) {
  constexpr const char* kNames[] = {"None",   "a boolean", "an integer", "a number",  "a text",  "a tuple",
                                    "a list", "a dict",    "a function", "a storage", "a tensor"};
  return kNames[kind];
}

std::string Quoted(std::string_view text) { return absl::StrCat("\"", absl::CHexEscape(text), "\""); }

class Machine {
 public:
  explicit Machine(std::string_view pickle) : pickle_(pickle) {}

  absl::StatusOr<std::vector<PickledTensor>> Run();

 private:
  // Reading. Errors name the instruction that is being read.
  absl::Status Error(std::string_view reason) const;
  absl::StatusOr<std::string_view> Bytes(size_t count);
  absl::StatusOr<int64_t> Integer(int size, bool is_signed);
  absl::StatusOr<std::string_view> Line();

  // The stack.
  void Push(Value value) {
    stack_.push_back(values_.size());
    values_.push_back(std::move(value));
  }
  absl::StatusOr<size_t> Pop();
  absl::StatusOr<Value*> Top(Value::Kind kind);
  absl::StatusOr<std::vector<size_t>> PopMark();

  absl::Status Step(unsigned char op);
  absl::Status PushNumber(unsigned char op);
  absl::Status PushText();
  absl::Status PushName();
  absl::Status PushTuple(size_t count);
  absl::Status Get(int size);
  absl::Status Put(int size);
  absl::Status AddTo(Value::Kind kind, bool many);
  absl::Status PushStorage();
  absl::Status Reduce();
  absl::Status Build();
  absl::Status PushTensor(const std::vector<size_t>& arguments);
  void Push(Value::Kind kind, PickledTensor tensor) {
    Push({.kind = kind, .integer = static_cast<int64_t>(tensors_.size())});
    tensors_.push_back(std::move(tensor));
  }
  absl::StatusOr<std::vector<int64_t>> Sizes(size_t tuple) const;
  absl::StatusOr<std::vector<PickledTensor>> Result() const;

  const std::string_view pickle_;
  size_t position_ = 0;
  size_t op_position_ = 0;  // of the instruction that is being read
  std::vector<Value> values_;
  std::vector<PickledTensor> tensors_;  // without names; of a storage alone, its first fields
  std::vector<size_t> stack_;           // into values_
  std::vector<size_t> marks_;           // into stack_
  std::map<int64_t, size_t> memo_;      // into values_
};

absl::Status Machine::Error(std::string_view reason) const {
  return absl::InvalidArgumentError(absl::StrCat("data.pkl, byte ", op_position_, ": ", reason));
}

absl::StatusOr<std::string_view> Machine::Bytes(size_t count) {
  if (count > pickle_.size() - position_) return Error("it is cut off");
  const std::string_view bytes = pickle_.substr(position_, count);
  position_ += count;
  return bytes;
}

absl::StatusOr<int64_t> Machine::Integer(int size, bool is_signed) {
  TITAN_ASSIGN_OR_RETURN(const std::string_view bytes, Bytes(size));
  uint64_t value = is_signed && size > 0 && (bytes.back() & 0x80) != 0 ? ~uint64_t{0} : 0;
  for (int i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return static_cast<int64_t>(value);
}

absl::StatusOr<std::string_view> Machine::Line() {
  const size_t end = pickle_.find('\n', position_);
  if (end == std::string_view::npos) return Error("it is cut off");
  const std::string_view line = pickle_.substr(position_, end - position_);
  position_ = end + 1;
  return line;
}

// Values below the last mark are not this instruction's.
absl::StatusOr<size_t> Machine::Pop() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) return Error("the stack is empty");
  const size_t value = stack_.back();
  stack_.pop_back();
  return value;
}

absl::StatusOr<Value*> Machine::Top(Value::Kind kind) {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) return Error("the stack is empty");
  Value& value = values_[stack_.back()];
  if (value.kind != kind) return Error(absl::StrCat("finds ", KindName(value.kind), " instead of ", KindName(kind)));
  return &value;
}

absl::StatusOr<std::vector<size_t>> Machine::PopMark() {
  if (marks_.empty()) return Error("there is no mark");
  std::vector<size_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
  stack_.resize(marks_.back());
  marks_.pop_back();
  return items;
}

absl::Status Machine::PushNumber(unsigned char op) {
  Value value{.kind = Value::kInteger};
  if (op == kBinFloat) {
    // The number itself is of no use: no part of a tensor is one.
    TITAN_RETURN_IF_ERROR(Bytes(8).status());
    value.kind = Value::kReal;
  } else if (op == kLong1) {
    TITAN_ASSIGN_OR_RETURN(const int64_t size, Integer(1, /*is_signed=*/false));
    if (size > 8) return Error(absl::StrCat("an integer of ", size, " bytes; 8 are the most"));
    TITAN_ASSIGN_OR_RETURN(value.integer, Integer(static_cast<int>(size), /*is_signed=*/true));
  } else {
    const int size = op == kBinInt ? 4 : op == kBinInt2 ? 2 : 1;
    TITAN_ASSIGN_OR_RETURN(value.integer, Integer(size, /*is_signed=*/op == kBinInt));
  }
  Push(std::move(value));
  return absl::OkStatus();
}

absl::Status Machine::PushText() {
  TITAN_ASSIGN_OR_RETURN(const int64_t size, Integer(4, /*is_signed=*/false));
  TITAN_ASSIGN_OR_RETURN(const std::string_view text, Bytes(static_cast<size_t>(size)));
  Push({.kind = Value::kText, .text = std::string(text)});
  return absl::OkStatus();
}

absl::Status Machine::PushName() {
  TITAN_ASSIGN_OR_RETURN(const std::string_view module, Line());
  TITAN_ASSIGN_OR_RETURN(const std::string_view name, Line());
  std::string whole = absl::StrCat(module, ".", name);
  const bool is_known =
      whole == kOrderedDict || whole == kRebuildTensor || whole == kRebuildParameter || DtypeOfStorage(whole);
  if (!is_known) {
    return Error(absl::StrCat("GLOBAL ", absl::CHexEscape(whole),
                              " is refused: a state dict of tensors does not need it. Load the file in PyTorch, if you "
                              "trust it, and save its tensors alone"));
  }
  Push({.kind = Value::kName, .text = std::move(whole)});
  return absl::OkStatus();
}

absl::Status Machine::PushTuple(size_t count) {
  Value value{.kind = Value::kTuple, .items = std::vector<size_t>(count)};
  for (size_t i = count; i-- > 0;) {
    TITAN_ASSIGN_OR_RETURN(value.items[i], Pop());
  }
  Push(std::move(value));
  return absl::OkStatus();
}

absl::Status Machine::Get(int size) {
  TITAN_ASSIGN_OR_RETURN(const int64_t index, Integer(size, /*is_signed=*/false));
  const auto found = memo_.find(index);
  if (found == memo_.end()) return Error(absl::StrCat("nothing was put at ", index));
  stack_.push_back(found->second);
  return absl::OkStatus();
}

absl::Status Machine::Put(int size) {
  TITAN_ASSIGN_OR_RETURN(const int64_t index, Integer(size, /*is_signed=*/false));
  TITAN_ASSIGN_OR_RETURN(const size_t value, Pop());
  stack_.push_back(value);
  memo_[index] = value;
  return absl::OkStatus();
}

// APPEND and APPENDS of a list, SETITEM and SETITEMS of a dict.
absl::Status Machine::AddTo(Value::Kind kind, bool many) {
  const size_t unit = kind == Value::kDict ? 2 : 1;
  std::vector<size_t> items(unit);
  if (many) {
    TITAN_ASSIGN_OR_RETURN(items, PopMark());
    if (items.size() % unit != 0) return Error("a key without a value");
  } else {
    for (size_t i = unit; i-- > 0;) {
      TITAN_ASSIGN_OR_RETURN(items[i], Pop());
    }
  }
  TITAN_ASSIGN_OR_RETURN(Value* const target, Top(kind));
  target->items.insert(target->items.end(), items.begin(), items.end());
  return absl::OkStatus();
}

// ("storage", type, key, device, elements).
absl::Status Machine::PushStorage() {
  TITAN_ASSIGN_OR_RETURN(const size_t id, Pop());
  const std::vector<size_t>& items = values_[id].items;
  constexpr Value::Kind kKinds[] = {Value::kText, Value::kName, Value::kText, Value::kText, Value::kInteger};
  bool is_storage = values_[id].kind == Value::kTuple && items.size() == std::size(kKinds);
  for (size_t i = 0; is_storage && i < items.size(); ++i) is_storage = values_[items[i]].kind == kKinds[i];
  if (!is_storage || values_[items[0]].text != "storage") return Error("BINPERSID of something else than a storage");
  const std::optional<StoredDtype> dtype = DtypeOfStorage(values_[items[1]].text);
  if (!dtype) return Error(absl::StrCat(values_[items[1]].text, " is no storage"));
  PickledTensor storage;
  storage.dtype = *dtype;
  storage.storage = values_[items[2]].text;
  storage.storage_elements = values_[items[4]].integer;
  if (!NumBytes(*dtype, {storage.storage_elements})) {
    return Error(absl::StrCat("storage ", Quoted(storage.storage), " of ", storage.storage_elements, " elements"));
  }
  Push(Value::kStorage, std::move(storage));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> Machine::Sizes(size_t tuple) const {
  const Value& value = values_[tuple];
  if (value.kind != Value::kTuple) return Error("sizes and strides must be tuples");
  if (value.items.size() > kMaxDimensions) return Error("a tensor of more than 16 dimensions");
  std::vector<int64_t> sizes;
  for (const size_t item : value.items) {
    if (values_[item].kind != Value::kInteger) return Error("sizes and strides must be integers");
    sizes.push_back(values_[item].integer);
  }
  return sizes;
}

// (storage, offset, sizes, strides, requires_grad, hooks), and maybe what Python has attached.
absl::Status Machine::PushTensor(const std::vector<size_t>& arguments) {
  if (arguments.size() < 6 || arguments.size() > 7) return Error("_rebuild_tensor_v2 takes 6 or 7 arguments");
  const Value& storage = values_[arguments[0]];
  if (storage.kind != Value::kStorage || values_[arguments[1]].kind != Value::kInteger) {
    return Error("_rebuild_tensor_v2 takes a storage and an offset");
  }
  PickledTensor tensor = tensors_[storage.integer];
  tensor.offset = values_[arguments[1]].integer;
  TITAN_ASSIGN_OR_RETURN(tensor.sizes, Sizes(arguments[2]));
  TITAN_ASSIGN_OR_RETURN(tensor.strides, Sizes(arguments[3]));
  Push(Value::kTensor, std::move(tensor));
  return absl::OkStatus();
}

absl::Status Machine::Reduce() {
  TITAN_ASSIGN_OR_RETURN(const size_t tuple, Pop());
  TITAN_ASSIGN_OR_RETURN(const size_t function, Pop());
  if (values_[tuple].kind != Value::kTuple) return Error("REDUCE without a tuple of arguments");
  if (values_[function].kind != Value::kName) {
    return Error(absl::StrCat("REDUCE of ", KindName(values_[function].kind), " instead of a function"));
  }
  const std::string& name = values_[function].text;
  const std::vector<size_t>& arguments = values_[tuple].items;
  if (name == kOrderedDict) {
    if (!arguments.empty()) return Error("OrderedDict with arguments");
    Push({.kind = Value::kDict});
    return absl::OkStatus();
  }
  if (name == kRebuildTensor) return PushTensor(arguments);
  if (name == kRebuildParameter) {
    if (arguments.size() != 3 || values_[arguments[0]].kind != Value::kTensor) {
      return Error("_rebuild_parameter takes a tensor and two more arguments");
    }
    stack_.push_back(arguments[0]);
    return absl::OkStatus();
  }
  return Error(absl::StrCat("REDUCE of ", name, ", which is no function"));
}

// Attributes: state dicts of modules have "_metadata", the versions of their classes. They change no tensor.
absl::Status Machine::Build() {
  TITAN_ASSIGN_OR_RETURN(const size_t attributes, Pop());
  if (values_[attributes].kind != Value::kDict) return Error("BUILD with something else than a dict");
  return Top(Value::kDict).status();
}

absl::Status Machine::Step(unsigned char op) {
  switch (op) {
    case kMark:
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case kNone:
      Push({.kind = Value::kNothing});
      return absl::OkStatus();
    case kNewTrue:
    case kNewFalse:
      Push({.kind = Value::kBool, .integer = op == kNewTrue});
      return absl::OkStatus();
    case kBinInt:
    case kBinInt1:
    case kBinInt2:
    case kLong1:
    case kBinFloat:
      return PushNumber(op);
    case kBinUnicode:
      return PushText();
    case kGlobal:
      return PushName();
    case kEmptyDict:
      Push({.kind = Value::kDict});
      return absl::OkStatus();
    case kEmptyList:
      Push({.kind = Value::kList});
      return absl::OkStatus();
    case kEmptyTuple:
    case kTuple1:
    case kTuple2:
    case kTuple3:
      return PushTuple(op == kEmptyTuple ? 0 : op - kTuple1 + 1);
    case kTuple: {
      TITAN_ASSIGN_OR_RETURN(std::vector<size_t> items, PopMark());
      Push({.kind = Value::kTuple, .items = std::move(items)});
      return absl::OkStatus();
    }
    case kBinGet:
    case kLongBinGet:
      return Get(op == kBinGet ? 1 : 4);
    case kBinPut:
    case kLongBinPut:
      return Put(op == kBinPut ? 1 : 4);
    case kAppend:
    case kAppends:
      return AddTo(Value::kList, op == kAppends);
    case kSetItem:
    case kSetItems:
      return AddTo(Value::kDict, op == kSetItems);
    case kBinPersId:
      return PushStorage();
    case kReduce:
      return Reduce();
    case kBuild:
      return Build();
    default:
      break;
  }
  std::string name = absl::StrFormat("0x%02x", op);
  for (const OpName& refused : kRefused) {
    if (refused.op == op) name = refused.name;
  }
  return Error(absl::StrCat("the instruction ", name, " is refused: a state dict of tensors does not need it"));
}

// Why the view does not lie inside its storage; empty if it does.
std::string Misplaced(const PickledTensor& tensor) {
  if (tensor.sizes.size() != tensor.strides.size()) {
    return absl::StrCat(tensor.sizes.size(), " sizes, but ", tensor.strides.size(), " strides");
  }
  if (tensor.offset < 0) return absl::StrCat("its offset is ", tensor.offset);
  bool is_empty = false;
  for (size_t d = 0; d < tensor.sizes.size(); ++d) {
    if (tensor.sizes[d] < 0) return absl::StrCat("a size is ", tensor.sizes[d]);
    if (tensor.strides[d] < 0) return absl::StrCat("a stride is ", tensor.strides[d]);
    is_empty = is_empty || tensor.sizes[d] == 0;
  }
  if (!NumBytes(tensor.dtype, tensor.sizes)) return "its shape is too large";
  if (is_empty) return "";
  int64_t last = tensor.offset;
  for (size_t d = 0; d < tensor.sizes.size(); ++d) {
    int64_t reach = 0;
    if (__builtin_mul_overflow(tensor.sizes[d] - 1, tensor.strides[d], &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      return "its strides are too large";
    }
  }
  if (last < tensor.storage_elements) return "";
  return absl::StrCat("reaches to element ", last, " of a storage of ", tensor.storage_elements);
}

absl::StatusOr<std::vector<PickledTensor>> Machine::Result() const {
  const Value& dict = values_[stack_.back()];
  if (dict.kind != Value::kDict) {
    return absl::InvalidArgumentError(
        absl::StrCat("holds ", KindName(dict.kind), " instead of a state dict, a dict of tensors"));
  }
  std::vector<PickledTensor> tensors;
  std::set<std::string> names;
  std::map<std::string, std::pair<StoredDtype, int64_t>> storages;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const Value &key = values_[dict.items[i]], &value = values_[dict.items[i + 1]];
    if (key.kind != Value::kText) {
      return absl::InvalidArgumentError(absl::StrCat("a key of the dict is ", KindName(key.kind)));
    }
    const std::string name = Quoted(key.text);
    if (value.kind != Value::kTensor) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is ", KindName(value.kind), " and no tensor; save the model's state dict alone"));
    }
    if (!names.insert(key.text).second) return absl::InvalidArgumentError(absl::StrCat(name, " is there twice"));
    PickledTensor tensor = tensors_[value.integer];
    tensor.name = key.text;
    if (const std::string reason = Misplaced(tensor); !reason.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", name, ": ", reason));
    }
    const auto type = std::make_pair(tensor.dtype, tensor.storage_elements);
    if (storages.emplace(tensor.storage, type).first->second != type) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", name, ": another tensor has its storage with another dtype or size"));
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

absl::StatusOr<std::vector<PickledTensor>> Machine::Run() {
  if (pickle_.size() > kMaxPickleBytes) return Error("it is too large for a state dict");
  TITAN_ASSIGN_OR_RETURN(const std::string_view start, Bytes(2));
  if (static_cast<unsigned char>(start[0]) != kProto) return Error("it does not begin as a pickle does");
  if (start[1] != kProtocol) {
    return Error(absl::StrCat("pickle protocol ", static_cast<int>(start[1]),
                              "; protocol 2 is read, which torch.save writes unless it is told otherwise"));
  }
  while (true) {
    op_position_ = position_;
    TITAN_ASSIGN_OR_RETURN(const std::string_view op, Bytes(1));
    if (static_cast<unsigned char>(op[0]) == kStop) break;
    TITAN_RETURN_IF_ERROR(Step(static_cast<unsigned char>(op[0])));
  }
  if (stack_.size() != 1 || !marks_.empty()) return Error("it ends with something else than one value");
  if (position_ != pickle_.size()) return Error("bytes follow its end");
  return Result();
}

}  // namespace

absl::StatusOr<std::vector<PickledTensor>> ParseStatePickle(std::string_view pickle) { return Machine(pickle).Run(); }

}  // namespace titan
