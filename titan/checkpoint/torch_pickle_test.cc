#include "titan/checkpoint/torch_pickle.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using namespace std::string_literals;

std::string ErrorOf(const std::string& pickle) {
  const auto tensors = ParseStatePickle(pickle);
  return tensors.ok() ? "no error" : std::string(tensors.status().message());
}

// Instructions between the first two bytes and the last.
std::string ErrorIn(const std::string& instructions) { return ErrorOf("\x80\x02" + instructions + "."); }

std::string Text(const std::string& text) {
  std::string bytes = "X";
  for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(text.size() >> (8 * i)));
  return bytes + text;
}

std::string Storage(const std::string& type, const std::string& elements) {
  return absl::StrCat("(", Text("storage"), "ctorch\n", type, "\n", Text("0"), Text("cpu"), elements, "tQ");
}

// A dict of one tensor with these instructions for its parts.
std::string Tensor(const std::string& storage, const std::string& offset, const std::string& sizes,
                   const std::string& strides) {
  return absl::StrCat("}", Text("w"), "ctorch._utils\n_rebuild_tensor_v2\n(", storage, offset, sizes, strides,
                      "\x89}tR", "s");
}

const std::string k6 = "K\x06", k2 = "K\x02";
const std::string kFloats = Storage("FloatStorage", k6);
const std::string kZero = "K\0"s;

TEST(TorchPickle, RoundTrip) {
  const std::vector<PickledTensor> tensors = {
      {"matrix", "0", StoredDtype::kF32, 24, 1, {2, 3}, {12, 4}},
      {"scalar", "1", StoredDtype::kBF16, 1, 0, {}, {}},
      {"large", "2", StoredDtype::kI64, int64_t{1} << 40, int64_t{1} << 33, {256, 70000}, {1 << 20, 300}},
      {"the same", "0", StoredDtype::kF32, 24, 0, {24}, {1}},
  };
  const auto pickle = FormatStatePickle(tensors);
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  const auto read = ParseStatePickle(*pickle);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ((*read)[i].name, tensors[i].name);
    EXPECT_EQ((*read)[i].storage, tensors[i].storage);
    EXPECT_EQ((*read)[i].dtype, tensors[i].dtype);
    EXPECT_EQ((*read)[i].storage_elements, tensors[i].storage_elements);
    EXPECT_EQ((*read)[i].offset, tensors[i].offset);
    EXPECT_EQ((*read)[i].sizes, tensors[i].sizes);
    EXPECT_EQ((*read)[i].strides, tensors[i].strides);
  }
  EXPECT_TRUE(ParseStatePickle(FormatStatePickle({}).value()).value().empty());
  EXPECT_THAT(std::string(FormatStatePickle({{"w", "0", StoredDtype::kF8E4M3, 1, 0, {1}, {1}}}).status().message()),
              HasSubstr("torch has no storage for F8_E4M3"));
}

TEST(TorchPickle, ReadsTheFormsThatAreNotWritten) {
  const auto read =
      ParseStatePickle("\x80\x02" + Tensor(kFloats, "M\x01\x00"s, "K\x02\x85"s, "\x8a\x01\x02\x85"s) + ".");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 1u);
  EXPECT_EQ((*read)[0].offset, 1);
  EXPECT_THAT((*read)[0].sizes, ElementsAre(2));
  EXPECT_THAT((*read)[0].strides, ElementsAre(2));
}

TEST(TorchPickle, NothingIsCalled) {
  EXPECT_THAT(ErrorIn("cos\nsystem\n" + Text("true") + "\x85R"),
              HasSubstr("data.pkl, byte 2: GLOBAL os.system is refused"));
  EXPECT_THAT(ErrorIn("c__builtin__\neval\n"), HasSubstr("GLOBAL __builtin__.eval is refused"));
  EXPECT_THAT(ErrorIn("ctorch.jit._script\nunpackage_script_module\n"), HasSubstr("is refused"));
  EXPECT_THAT(ErrorIn("ctorch\nComplexFloatStorage\n"), HasSubstr("GLOBAL torch.ComplexFloatStorage is refused"));
  EXPECT_THAT(ErrorIn("ccollections\nOrderedDict.fromkeys\n"), HasSubstr("OrderedDict.fromkeys is refused"));
  EXPECT_THAT(ErrorIn("c\x1b[2J\n\xff\n"), HasSubstr("\\x1b[2J.\\xff is refused"));
  EXPECT_THAT(ErrorIn("(S'true'\nios\nsystem\n"), HasSubstr("the instruction STRING is refused"));
  EXPECT_THAT(ErrorIn("(ios\nsystem\n"), HasSubstr("the instruction INST is refused"));
  EXPECT_THAT(ErrorIn("(o"), HasSubstr("the instruction OBJ is refused"));
  EXPECT_THAT(ErrorIn("))\x81"), HasSubstr("the instruction NEWOBJ is refused"));
  EXPECT_THAT(ErrorIn(Text("os") + Text("system") + "\x93"), HasSubstr("the instruction STACK_GLOBAL is refused"));
  EXPECT_THAT(ErrorIn("\x82\x01"), HasSubstr("the instruction EXT1 is refused"));
  EXPECT_THAT(ErrorIn("Pos\n"), HasSubstr("the instruction PERSID is refused"));
  EXPECT_THAT(ErrorIn("\xfe"), HasSubstr("the instruction 0xfe is refused"));
  EXPECT_THAT(ErrorIn("ctorch\nFloatStorage\n)R"), HasSubstr("torch.FloatStorage, which is no function"));
  EXPECT_THAT(ErrorIn(Text("f") + ")R"), HasSubstr("REDUCE of a text instead of a function"));
  EXPECT_THAT(ErrorIn("ccollections\nOrderedDict\n}\x85R"), HasSubstr("OrderedDict with arguments"));
}

TEST(TorchPickle, BrokenStacks) {
  EXPECT_THAT(ErrorIn(""), HasSubstr("ends with something else than one value"));
  EXPECT_THAT(ErrorIn("}}"), HasSubstr("ends with something else than one value"));
  EXPECT_THAT(ErrorIn("}("), HasSubstr("ends with something else than one value"));
  for (const char* op : {"R", "Q", "b", "s", "a", "\x85", "\x86", "\x87", "q\x01", "r\x01\x01\x01\x01"}) {
    EXPECT_THAT(ErrorIn(op), HasSubstr("the stack is empty")) << op;
    // What is below a mark is not theirs.
    EXPECT_THAT(ErrorIn(absl::StrCat("}}}}(", op)), HasSubstr("the stack is empty")) << op;
  }
  for (const char* op : {"t", "u", "e"}) EXPECT_THAT(ErrorIn(op), HasSubstr("there is no mark")) << op;
  EXPECT_THAT(ErrorIn("(" + Text("k") + "u"), HasSubstr("a key without a value"));
  EXPECT_THAT(ErrorIn("](" + Text("k") + "Nu"), HasSubstr("finds a list instead of a dict"));
  EXPECT_THAT(ErrorIn("}Na"), HasSubstr("finds a dict instead of a list"));
  EXPECT_THAT(ErrorIn("}Nb"), HasSubstr("BUILD with something else than a dict"));
  EXPECT_THAT(ErrorIn("N}b"), HasSubstr("finds None instead of a dict"));
  EXPECT_THAT(ErrorIn("NQ"), HasSubstr("something else than a storage"));
  EXPECT_THAT(ErrorIn("h\x07"), HasSubstr("nothing was put at 7"));
  EXPECT_THAT(ErrorIn("j\xff\xff\xff\xff"), HasSubstr("nothing was put at 4294967295"));
  EXPECT_THAT(ErrorIn("}r\xff\xff\xff\x7f"s), "no error");  // a huge index takes no memory
}

TEST(TorchPickle, WhatHoldsItselfIsNotFollowed) {
  EXPECT_THAT(ErrorIn("}q\x01" + Text("self") + "h\x01s"), HasSubstr("\"self\" is a dict and no tensor"));
  EXPECT_THAT(ErrorIn("]q\x01h\x01"
                      "a"),
              HasSubstr("holds a list instead of a state dict"));
  EXPECT_THAT(ErrorIn(std::string(1000000, '}') + std::string(999999, '\x85')), HasSubstr("one value"));
  EXPECT_THAT(ErrorIn("}" + std::string(1000000, '\x85')), HasSubstr("holds a tuple instead of a state dict"));
}

TEST(TorchPickle, CutOffOrNoPickle) {
  const std::string whole = "\x80\x02" + Tensor(kFloats, kZero, k6 + "\x85", "K\x01\x85"s) + ".";
  ASSERT_EQ(ErrorOf(whole), "no error");
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_NE(ErrorOf(whole.substr(0, size)), "no error") << size;
  EXPECT_THAT(ErrorOf(whole + "."), HasSubstr("bytes follow its end"));
  EXPECT_THAT(ErrorOf("\x80\x04}."), HasSubstr("pickle protocol 4; protocol 2 is read"));
  EXPECT_THAT(ErrorOf("(dp0\n."), HasSubstr("does not begin as a pickle does"));
  EXPECT_THAT(ErrorIn("X\xff\xff\xff\xff"), HasSubstr("it is cut off"));
  EXPECT_THAT(ErrorIn("X\xff\xff\xff\x7f"), HasSubstr("it is cut off"));
  EXPECT_THAT(ErrorIn("\x8a\x09"
                      "123456789"),
              HasSubstr("an integer of 9 bytes"));
  EXPECT_THAT(ErrorIn("ctorch"), HasSubstr("it is cut off"));
  EXPECT_THAT(ErrorOf(std::string(40'000'000, '}')), HasSubstr("too large for a state dict"));
}

TEST(TorchPickle, TensorsOutsideTheirStorage) {
  const std::string one = "K\x01\x85"s, minus = "J\xff\xff\xff\xff"s;
  EXPECT_EQ(ErrorIn(Tensor(kFloats, kZero, k6 + "\x85", one)), "no error");
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, "K\x07\x85", one)),
              HasSubstr("\"w\": reaches to element 6 of a storage of 6"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, "K\x01", k6 + "\x85", one)), HasSubstr("reaches to element 6"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, k2 + "\x85", k6 + "\x85")), HasSubstr("reaches to element 6"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, minus, one, one)), HasSubstr("its offset is -1"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, minus + "\x85", one)), HasSubstr("a size is -1"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, one, minus + "\x85")), HasSubstr("a stride is -1"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, one, ")")), HasSubstr("1 sizes, but 0 strides"));
  EXPECT_THAT(ErrorIn(Tensor(Storage("FloatStorage", minus), kZero, one, one)), HasSubstr("of -1 elements"));
  const std::string huge = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
  EXPECT_THAT(ErrorIn(Tensor(Storage("FloatStorage", huge), kZero, one, one)), HasSubstr("elements"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, huge + k2 + "\x86", kZero + kZero + "\x86")), HasSubstr("too large"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, k6 + "\x85", huge + "\x85")), HasSubstr("strides are too large"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, huge, k2 + "\x85", one)), HasSubstr("strides are too large"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, "(" + std::string(17, '\x88') + "t", one)), HasSubstr("16 dimensions"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, "N\x85", one)), HasSubstr("must be integers"));
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, "N", one)), HasSubstr("must be tuples"));
  EXPECT_THAT(ErrorIn(Tensor("N", kZero, one, one)), HasSubstr("takes a storage and an offset"));
  EXPECT_THAT(ErrorIn("ctorch._utils\n_rebuild_tensor_v2\n)R"), HasSubstr("takes 6 or 7 arguments"));
  EXPECT_THAT(ErrorIn("ctorch._utils\n_rebuild_parameter\n)R"), HasSubstr("takes a tensor and two more arguments"));
  EXPECT_THAT(ErrorIn(Tensor(Storage("FloatStorage", k6).replace(1, 12, Text("module")), kZero, one, one)),
              HasSubstr("something else than a storage"));
}

TEST(TorchPickle, OnlyDictsOfTensors) {
  EXPECT_THAT(ErrorIn("N"), HasSubstr("holds None instead of a state dict"));
  EXPECT_THAT(ErrorIn("}" + Text("epoch") + k6 + "s"), HasSubstr("\"epoch\" is an integer and no tensor"));
  EXPECT_THAT(ErrorIn("}" + k6 + "Ns"), HasSubstr("a key of the dict is an integer"));
  const std::string one = "K\x01\x85"s;
  const std::string twice = Tensor(kFloats, kZero, one, one) + Tensor(kFloats, kZero, one, one).substr(1);
  EXPECT_THAT(ErrorIn(twice), HasSubstr("\"w\" is there twice"));
  std::string other = Tensor(Storage("HalfStorage", k6), kZero, one, one).substr(1);
  other[5] = 'v';
  EXPECT_THAT(ErrorIn(Tensor(kFloats, kZero, one, one) + other),
              HasSubstr("\"v\": another tensor has its storage with another dtype or size"));
}

TEST(TorchPickle, MutationsNeverCrash) {
  const std::string whole = "\x80\x02" + Tensor(kFloats, kZero, k6 + "\x85", "K\x01\x85"s) + ".";
  const std::string ops = "(.GJKMNQRXabcehjqrstu]})\x80\x85\x86\x87\x88\x89\x8a";
  std::mt19937 random(5);
  int refused = 0;
  for (int round = 0; round < 50000; ++round) {
    std::string mutated = whole;
    for (int edit = random() % 5; edit >= 0; --edit) {
      const size_t at = random() % mutated.size();
      switch (random() % 4) {
        case 0:
          mutated[at] = static_cast<char>(random());
          break;
        case 1:
          mutated[at] = ops[random() % ops.size()];
          break;
        case 2:
          mutated.insert(at, 1, ops[random() % ops.size()]);
          break;
        default:
          mutated.erase(at, 1 + random() % 4);
      }
      if (mutated.empty()) break;
    }
    refused += ParseStatePickle(mutated).ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 25000);
}

}  // namespace
}  // namespace titan
