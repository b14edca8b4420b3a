#include "titan/checkpoint/tensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>

#include "gtest/gtest.h"

namespace titan {
namespace {

std::string TestPath(const std::string& name) { return testing::TempDir() + "/" + name; }

TEST(Tensors, EveryDtypeComesBack) {
  NamedTensors tensors;
  for (const at::ScalarType type :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kFloat8_e4m3fn, at::kFloat8_e5m2, at::kLong, at::kInt,
        at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors.emplace_back(c10::toString(type), at::arange(6).view({2, 3}).to(type));
  }
  const std::string path = TestPath("dtypes.safetensors");
  ASSERT_TRUE(WriteTensors(path, tensors).ok());
  const auto read = ReadTensors(path);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor* back = FindTensor(*read, name);
    ASSERT_NE(back, nullptr) << name;
    EXPECT_EQ(back->scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(back->to(at::kDouble), tensor.to(at::kDouble))) << name;
  }
}

TEST(Tensors, AnyLayoutIsWrittenRowByRow) {
  const at::Tensor matrix = at::arange(6, at::kFloat).view({2, 3});
  const std::string path = TestPath("transposed.safetensors");
  ASSERT_TRUE(WriteTensors(path, {{"t", matrix.t()}, {"part", matrix.slice(1, 1, 2)}, {"scalar", matrix.sum()}}).ok());
  const NamedTensors read = ReadTensors(path).value();
  EXPECT_TRUE(at::equal(*FindTensor(read, "t"), matrix.t()));
  EXPECT_TRUE(at::equal(*FindTensor(read, "part"), matrix.slice(1, 1, 2)));
  EXPECT_EQ(FindTensor(read, "scalar")->dim(), 0);
}

TEST(Tensors, ViewsShareTheMappingAndKeepItAlive) {
  const std::string path = TestPath("view.safetensors");
  ASSERT_TRUE(WriteTensors(path, {{"w", at::ones({3})}}).ok());
  at::Tensor view;
  {
    const auto file = SafetensorsFile::Open(path).value();
    const SafetensorsFile::Entry* entry = file->Find("w");
    view = ViewOf(file, *entry);
    EXPECT_EQ(view.const_data_ptr(), entry->data.data());
  }
  EXPECT_TRUE(at::equal(view, at::ones({3})));
}

// An odd number of bytes before a float: the format has no padding between tensors.
TEST(Tensors, UnalignedDataIsCopied) {
  const std::string path = TestPath("unaligned.safetensors");
  ASSERT_TRUE(WriteTensors(path, {{"odd", at::ones({3}, at::kByte)}, {"w", at::arange(5, at::kFloat)}}).ok());
  const auto file = SafetensorsFile::Open(path).value();
  const SafetensorsFile::Entry* entry = file->Find("w");
  const at::Tensor view = ViewOf(file, *entry);
  EXPECT_NE(view.const_data_ptr(), entry->data.data());
  EXPECT_TRUE(at::equal(view, at::arange(5, at::kFloat)));
}

TEST(Tensors, EmptyTensors) {
  const std::string path = TestPath("empty.safetensors");
  ASSERT_TRUE(WriteTensors(path, {{"none", at::ones({0, 4})}}).ok());
  EXPECT_EQ(FindTensor(ReadTensors(path).value(), "none")->sizes(), (std::vector<int64_t>{0, 4}));
}

TEST(Tensors, TypesWithoutAName) {
  EXPECT_FALSE(StoredDtypeOf(at::kComplexFloat).ok());
  EXPECT_FALSE(WriteTensors(TestPath("complex.safetensors"), {{"c", at::ones({1}, at::kComplexFloat)}}).ok());
}

}  // namespace
}  // namespace titan
