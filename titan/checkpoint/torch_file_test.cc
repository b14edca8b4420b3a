#include "titan/checkpoint/torch_file.h"

#include <ATen/core/Dict.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

std::string Fixture(const std::string& name) { return "titan/checkpoint/testdata/torch/" + name; }

std::string ErrorOf(const std::string& path) {
  const auto tensors = ReadTorchFile(path);
  return tensors.ok() ? "no error" : std::string(tensors.status().message());
}

const at::Tensor& Named(const NamedTensors& tensors, const std::string& name) {
  const at::Tensor* const found = FindTensor(tensors, name);
  EXPECT_NE(found, nullptr) << name;
  return *found;
}

TEST(TorchFile, ReadsEveryLayoutThatTorchHasSaved) {
  const auto tensors = ReadTorchFile(Fixture("layouts.pt"));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ(tensors->size(), 16u);
  const at::Tensor base = at::arange(24, at::kFloat).view({2, 3, 4});
  EXPECT_TRUE(at::equal(Named(*tensors, "whole"), base));
  EXPECT_TRUE(at::equal(Named(*tensors, "permuted"), base.permute({2, 0, 1})));
  EXPECT_EQ(Named(*tensors, "permuted").strides(), base.permute({2, 0, 1}).strides());
  EXPECT_EQ(Named(*tensors, "permuted").const_data_ptr(), Named(*tensors, "whole").const_data_ptr());
  EXPECT_TRUE(at::equal(Named(*tensors, "slice"), base.select(0, 1).narrow(0, 1, 2).slice(1, 0, 4, 2)));
  EXPECT_TRUE(at::equal(Named(*tensors, "expanded"), at::tensor({5.f, 6.f}).view({2, 1}).expand({2, 3})));
  EXPECT_TRUE(at::equal(Named(*tensors, "parameter"), at::ones({2})));
  EXPECT_EQ(Named(*tensors, "empty").sizes(), at::IntArrayRef({0, 3}));
  EXPECT_EQ(Named(*tensors, "scalar").dim(), 0);
  EXPECT_EQ(Named(*tensors, "scalar").item<float>(), 3.5f);
  const std::pair<const char*, at::ScalarType> dtypes[] = {
      {"float64", at::kDouble}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}, {"int64", at::kLong},
      {"int32", at::kInt},      {"int16", at::kShort},       {"int8", at::kChar},    {"uint8", at::kByte}};
  for (const auto& [name, dtype] : dtypes) {
    EXPECT_TRUE(at::equal(Named(*tensors, absl::StrCat("torch.", name)), at::arange(5, at::kLong).to(dtype))) << name;
  }
  EXPECT_TRUE(at::equal(Named(*tensors, "torch.bool"), at::tensor({1, 0, 1}).to(at::kBool)));
}

TEST(TorchFile, ReadsWhatOtherToolsHaveStored) {
  const auto module = ReadTorchFile(Fixture("module.pt"));
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_EQ(Named(*module, "weight").sizes(), at::IntArrayRef({3, 2}));
  for (const char* name : {"small.pt", "unaligned.pt"}) {
    const auto tensors = ReadTorchFile(Fixture(name));
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    EXPECT_TRUE(at::equal(Named(*tensors, "a"), at::arange(3, at::kFloat))) << name;
  }
}

TEST(TorchFile, TensorsOutliveWhatTheyWereReadWith) {
  at::Tensor tensor;
  {
    const NamedTensors tensors = ReadTorchFile(Fixture("small.pt")).value();
    tensor = tensors[0].second;
  }
  EXPECT_TRUE(at::equal(tensor, at::arange(3, at::kFloat)));
}

TEST(TorchFile, EverythingElseIsRefusedByName) {
  EXPECT_THAT(ErrorOf(Fixture("evil.pt")), HasSubstr("evil.pt: data.pkl, byte "));
  EXPECT_THAT(ErrorOf(Fixture("evil.pt")), HasSubstr("GLOBAL posix.system is refused"));
  EXPECT_FALSE(std::filesystem::exists("/tmp/this_must_not_be"));
  EXPECT_THAT(ErrorOf(Fixture("nested.pt")), HasSubstr("\"model\" is a dict and no tensor"));
  EXPECT_THAT(ErrorOf(Fixture("tensor.pt")), HasSubstr("holds a tensor instead of a state dict"));
  EXPECT_THAT(ErrorOf(Fixture("protocol4.pt")), HasSubstr("pickle protocol 4"));
  EXPECT_THAT(ErrorOf(Fixture("float8.pt")), HasSubstr("GLOBAL torch._utils._rebuild_tensor_v3 is refused"));
  EXPECT_THAT(ErrorOf(Fixture("complex.pt")), HasSubstr("GLOBAL torch.ComplexFloatStorage is refused"));
  EXPECT_THAT(ErrorOf(Fixture("legacy.pt")), HasSubstr("before 1.6"));
  EXPECT_THAT(ErrorOf(Fixture("deflated.pt")), HasSubstr("is compressed"));
}

TEST(TorchFile, ADamagedStorageIsNamed) {
  std::string file = ReadFile(Fixture("small.pt")).value();
  const size_t at = file.find(std::string("\0\0\0\0\0\0\x80\x3f", 8));
  ASSERT_NE(at, std::string::npos);
  file[at] = 1;
  const std::string path = testing::TempDir() + "/damaged.pt";
  ASSERT_TRUE(WriteFileAtomically(path, file).ok());
  EXPECT_THAT(ErrorOf(path), HasSubstr("entry \"small/data/0\" is damaged: its checksum does not match"));
}

class TorchFileWritten : public testing::Test {
 protected:
  TorchFileWritten() {
    const at::Tensor shared = at::arange(12, at::kFloat).view({3, 4});
    tensors_ = {{"embedding", shared},
                {"transposed", at::arange(12, at::kFloat).view({4, 3}).t()},
                {"scalar", at::ones({})},
                {"empty", at::zeros({0, 2})},
                {"head", shared}};
  }

  std::string Write(at::ScalarType dtype) {
    const std::string path = testing::TempDir() + "/written.pt";
    const absl::Status status = WriteTorchFile(path, tensors_, dtype);
    EXPECT_TRUE(status.ok()) << status;
    return path;
  }

  NamedTensors tensors_;
};

TEST_F(TorchFileWritten, IsReadAgain) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const auto read = ReadTorchFile(Write(dtype));
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(read->size(), tensors_.size());
    for (size_t i = 0; i < tensors_.size(); ++i) {
      EXPECT_EQ((*read)[i].first, tensors_[i].first);
      EXPECT_TRUE((*read)[i].second.is_contiguous());
      EXPECT_TRUE(at::equal((*read)[i].second, tensors_[i].second.to(dtype))) << tensors_[i].first;
    }
    EXPECT_EQ(Named(*read, "embedding").const_data_ptr(), Named(*read, "head").const_data_ptr());
  }
}

// LibTorch's own reader, the one of TorchScript, is another program than ours and than torch.load.
TEST_F(TorchFileWritten, IsReadByLibTorch) {
  const std::string bytes = ReadFile(Write(at::kFloat)).value();
  const auto dict = torch::jit::pickle_load(std::vector<char>(bytes.begin(), bytes.end())).toGenericDict();
  ASSERT_EQ(dict.size(), tensors_.size());
  for (const auto& [name, tensor] : tensors_) {
    EXPECT_TRUE(at::equal(dict.at(name).toTensor(), tensor)) << name;
  }
}

TEST_F(TorchFileWritten, BytesDependOnTheTensorsAlone) {
  const std::string first = ReadFile(Write(at::kFloat)).value();
  EXPECT_EQ(ReadFile(Write(at::kFloat)).value(), first);
}

TEST_F(TorchFileWritten, WhatCannotBeWrittenIsAnError) {
  EXPECT_THAT(std::string(WriteTorchFile(testing::TempDir() + "/no/such/folder.pt", tensors_, at::kFloat).message()),
              HasSubstr("no/such/folder.pt"));
  const absl::Status full = WriteTorchFile("/dev/full", tensors_, at::kFloat);
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
}

}  // namespace
}  // namespace titan
