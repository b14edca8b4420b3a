#include "titan/checkpoint/hf.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <filesystem>

#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

namespace fs = std::filesystem;

std::string Fixture(const std::string& name) { return "titan/checkpoint/testdata/" + name; }

// A folder of its own in the test's temporary directory, empty.
std::string Fresh(const std::string& name) {
  const std::string path = testing::TempDir() + "/" + name;
  fs::remove_all(path);
  return path;
}

// A writable copy of a fixture without its expected results.
std::string CopyOf(const std::string& fixture, const std::string& name) {
  const std::string path = Fresh(name);
  EXPECT_TRUE(MakeDirectories(path).ok());
  for (const auto& entry : fs::directory_iterator(Fixture(fixture))) {
    if (entry.path().filename() == "expected.safetensors") continue;
    EXPECT_TRUE(
        WriteFileAtomically(path + "/" + entry.path().filename().string(), ReadFile(entry.path()).value()).ok());
  }
  return path;
}

NamedTensors AllParameters(const HfCheckpoint& checkpoint, at::ScalarType dtype) {
  NamedTensors parameters;
  for (const BlockSpec& block : checkpoint.spec().blocks) {
    for (const ParameterSpec& parameter : block.parameters) {
      const auto tensor = checkpoint.Load(parameter.name, dtype);
      EXPECT_TRUE(tensor.ok()) << tensor.status();
      parameters.emplace_back(parameter.name, *tensor);
    }
  }
  return parameters;
}

// Changes tensors of a folder's model.safetensors.
template <typename Edit>
void EditWeights(const std::string& dir, Edit edit) {
  NamedTensors tensors = ReadTensors(dir + "/model.safetensors").value();
  edit(tensors);
  ASSERT_TRUE(WriteTensors(dir + "/model.safetensors", tensors).ok());
}

std::string ErrorOf(const std::string& dir) {
  const auto checkpoint = OpenHf(dir);
  return checkpoint.ok() ? "no error" : std::string(checkpoint.status().message());
}

class HfRoundTrip : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Fixtures, HfRoundTrip,
                         testing::Values("llama3_1", "llama3_2_tied", "llama_plain", "llama_trace",
                                         "llama_trace_tied"));

// In and out again: the same names, and every tensor equal to the library's file.
TEST_P(HfRoundTrip, GivesTheSameFile) {
  const auto checkpoint = OpenHf(Fixture(GetParam()));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::string dir = Fresh(std::string("out_") + GetParam());
  ASSERT_TRUE(WriteHf(dir, checkpoint->model(), AllParameters(*checkpoint, at::kFloat), at::kFloat).ok());

  const NamedTensors expected = ReadTensors(Fixture(GetParam()) + "/model.safetensors").value();
  const NamedTensors written = ReadTensors(dir + "/model.safetensors").value();
  EXPECT_EQ(written.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    const at::Tensor* same = FindTensor(written, name);
    ASSERT_NE(same, nullptr) << name;
    EXPECT_TRUE(at::equal(*same, tensor)) << name;
  }
  EXPECT_EQ(SafetensorsFile::Open(dir + "/model.safetensors").value()->metadata().at("format"), "pt");
  const auto again = OpenHf(dir);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->model().SerializeAsString(), checkpoint->model().SerializeAsString());
}

TEST(Hf, ShardedAndBfloat16) {
  const auto sharded = OpenHf(Fixture("llama3_1_bf16_sharded"));
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  const auto single = OpenHf(Fixture("llama3_1")).value();
  for (const auto& [name, tensor] : AllParameters(*sharded, at::kFloat)) {
    const at::Tensor expected = single.Load(name, at::kBFloat16).value().to(at::kFloat);
    EXPECT_TRUE(at::equal(tensor, expected)) << name;
  }

  // Out again in shards of the size that the library used: about 115 kB.
  const std::string dir = Fresh("sharded");
  const NamedTensors parameters = AllParameters(*sharded, at::kBFloat16);
  ASSERT_TRUE(WriteHf(dir, sharded->model(), parameters, at::kBFloat16,
                      {.max_shard_bytes = 115000, .max_position_embeddings = 0})
                  .ok());
  EXPECT_TRUE(fs::exists(dir + "/model-00001-of-00003.safetensors"));
  EXPECT_FALSE(fs::exists(dir + "/model.safetensors"));
  const auto again = OpenHf(dir);
  ASSERT_TRUE(again.ok()) << again.status();
  for (const auto& [name, tensor] : parameters) {
    EXPECT_TRUE(at::equal(again->Load(name, at::kBFloat16).value(), tensor)) << name;
  }
  const std::string index = ReadFile(dir + "/model.safetensors.index.json").value();
  EXPECT_NE(index.find("\"total_size\": 240256"), std::string::npos) << index;  // as in the fixture's own index
}

TEST(Hf, EveryDtypeOut) {
  const auto checkpoint = OpenHf(Fixture("llama_plain")).value();
  const NamedTensors parameters = AllParameters(checkpoint, at::kFloat);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const std::string dir = Fresh("dtype");
    ASSERT_TRUE(WriteHf(dir, checkpoint.model(), parameters, dtype).ok());
    const auto again = OpenHf(dir);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(at::equal(again->Load("norm.weight", at::kDouble).value(),
                          FindTensor(parameters, "norm.weight")->to(dtype).to(at::kDouble)));
  }
  EXPECT_FALSE(WriteHf(Fresh("dtype"), checkpoint.model(), parameters, at::kInt).ok());
}

TEST(Hf, NamesBothWays) {
  const auto checkpoint = OpenHf(Fixture("llama3_1")).value();
  EXPECT_EQ(checkpoint.HfName("layers.1.attention.wo.weight"), "model.layers.1.self_attn.o_proj.weight");
  EXPECT_EQ(HfName(checkpoint.model(), "output.weight").value(), "lm_head.weight");
  EXPECT_TRUE(absl::IsNotFound(HfName(checkpoint.model(), "no.such").status()));
  EXPECT_TRUE(absl::IsNotFound(checkpoint.Load("no.such", at::kFloat).status()));
}

// The memory is the caller's: training on it must not write into the file or end the process.
TEST(Hf, LoadedTensorsCanBeChanged) {
  const auto checkpoint = OpenHf(Fixture("llama3_1")).value();
  at::Tensor weight = checkpoint.Load("norm.weight", at::kFloat).value();
  weight.zero_();
  EXPECT_FALSE(at::equal(weight, checkpoint.Load("norm.weight", at::kFloat).value()));
}

TEST(Hf, AllProblemsAtOnce) {
  const std::string dir = CopyOf("llama_plain", "problems");
  EditWeights(dir, [](NamedTensors& tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name == "model.norm.weight") name = "model.norm.bias";
      if (name == "lm_head.weight") tensor = tensor.t().contiguous();
      if (name == "model.layers.1.mlp.up_proj.weight") tensor = tensor.to(at::kInt);
      if (name == "model.layers.0.self_attn.q_proj.weight") name = "model.layers.2.self_attn.q_proj.weight";
    }
  });
  const std::string error = ErrorOf(dir);
  for (const char* part :
       {"problems", "model.norm.weight: missing, [32]", "model.norm.bias: unexpected",
        "lm_head.weight: shape [32, 256], but config.json makes it [256, 32]",
        "model.layers.1.mlp.up_proj.weight: dtype I32", "model.layers.0.self_attn.q_proj.weight: missing",
        "model.layers.2.self_attn.q_proj.weight: unexpected"}) {
    EXPECT_NE(error.find(part), std::string::npos) << part << "\nnot in\n" << error;
  }
}

TEST(Hf, TiedModelsMayRepeatTheirEmbedding) {
  const std::string dir = CopyOf("llama3_2_tied", "tied");
  EditWeights(dir, [](NamedTensors& tensors) {
    tensors.emplace_back("lm_head.weight", FindTensor(tensors, "model.embed_tokens.weight")->clone());
  });
  EXPECT_TRUE(OpenHf(dir).ok()) << ErrorOf(dir);
  EditWeights(dir, [](NamedTensors& tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name == "lm_head.weight") tensor[0][0] = 99;
    }
  });
  EXPECT_NE(ErrorOf(dir).find("but they differ"), std::string::npos) << ErrorOf(dir);
}

TEST(Hf, ComputedTablesOfOldFilesAreSkipped) {
  const std::string dir = CopyOf("llama_plain", "inv_freq");
  EditWeights(dir, [](NamedTensors& tensors) {
    tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", at::full({4}, 1.0f));
  });
  EXPECT_TRUE(OpenHf(dir).ok()) << ErrorOf(dir);
}

TEST(Hf, IncompleteFolders) {
  const std::string dir = CopyOf("llama3_1_bf16_sharded", "incomplete");
  const std::string index_path = dir + "/model.safetensors.index.json";
  const std::string index = ReadFile(index_path).value();
  const auto with_index = [&](const std::string& from, const std::string& to) {
    std::string text = index;
    EXPECT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
    EXPECT_TRUE(WriteFileAtomically(index_path, text).ok());
    return ErrorOf(dir);
  };
  const std::string entry = "\"lm_head.weight\": \"model-00003-of-00003.safetensors\"";
  EXPECT_NE(with_index(entry, "\"lm_head.weight\": \"model-00001-of-00003.safetensors\"").find("says it is"),
            std::string::npos);
  EXPECT_NE(with_index(entry, "\"lm_heat.weight\": \"model-00003-of-00003.safetensors\"").find("but not in"),
            std::string::npos);
  EXPECT_NE(with_index(entry, "\"lm_head.weight\": \"../x\"").find("not a file name"), std::string::npos);
  EXPECT_NE(with_index(entry, "\"lm_head.weight\": 3").find("not a file name"), std::string::npos);
  EXPECT_NE(with_index("weight_map", "weight_cap").find("weight_map"), std::string::npos);
  EXPECT_NE(with_index("{", "").find("not JSON"), std::string::npos);
  ASSERT_TRUE(WriteFileAtomically(index_path, index).ok());
  ASSERT_TRUE(OpenHf(dir).ok()) << ErrorOf(dir);
  fs::remove(dir + "/model-00002-of-00003.safetensors");
  EXPECT_NE(ErrorOf(dir).find("model-00002-of-00003.safetensors"), std::string::npos);
  fs::remove(index_path);
  EXPECT_NE(ErrorOf(dir).find("neither"), std::string::npos);
  fs::remove(dir + "/config.json");
  EXPECT_NE(ErrorOf(dir).find("config.json"), std::string::npos);
}

TEST(Hf, WritesAllOrNothing) {
  const auto checkpoint = OpenHf(Fixture("llama_plain")).value();
  NamedTensors parameters = AllParameters(checkpoint, at::kFloat);
  const std::string dir = Fresh("nothing");
  NamedTensors broken = parameters;
  broken[0].first = "surplus";
  broken[1].second = broken[1].second.view({1, -1});
  const absl::Status status = WriteHf(dir, checkpoint.model(), broken, at::kFloat);
  for (const char* part :
       {"tok_embeddings.weight: missing", "surplus: unexpected", "layers.0.attention_norm.weight: shape"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status;
  }
  EXPECT_FALSE(fs::exists(dir));
  ASSERT_TRUE(WriteHf(dir + "/", checkpoint.model(), parameters, at::kFloat).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(WriteHf(dir, checkpoint.model(), parameters, at::kFloat)));
  EXPECT_TRUE(OpenHf(dir).ok());
}

}  // namespace
}  // namespace titan
