#include "titan/checkpoint/hf_config.h"

#include <limits>
#include <optional>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "nlohmann/json.hpp"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/json.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/options.pb.h"

namespace titan {
namespace {

// Reads one JSON object into messages and collects what is wrong with it.
class ObjectReader {
 public:
  // `path` precedes the keys in messages: "rope_scaling.".
  ObjectReader(const nlohmann::json& object, std::string path, std::vector<std::string>& errors)
      : object_(object), path_(std::move(path)), errors_(errors) {}

  // The value, or nullptr if it is absent or null, which the library writes for "not set".
  const nlohmann::json* Find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  void AddError(const char* key, std::string_view reason) { errors_.push_back(absl::StrCat(path_, key, ": ", reason)); }

  // Sets `field` of `message` to the number under `key`, or to `fallback` if there is none. The range is that of the
  // configuration (options.proto).
  void ReadNumber(const char* key, google::protobuf::Message& message, const char* field,
                  std::optional<double> fallback) {
    using google::protobuf::FieldDescriptor;
    const FieldDescriptor* descriptor = message.GetDescriptor()->FindFieldByName(field);
    CHECK(descriptor != nullptr) << field;
    const bool is_integer = descriptor->cpp_type() == FieldDescriptor::CPPTYPE_INT64;
    const nlohmann::json* value = Find(key);
    double number = fallback.value_or(0);
    if (value == nullptr && !fallback) return AddError(key, "missing");
    if (value != nullptr) {
      if (is_integer ? !value->is_number_integer() : !value->is_number()) {
        return AddError(key, absl::StrCat(value->dump(), is_integer ? " is not an integer" : " is not a number"));
      }
      number = value->get<double>();
    }
    const config::FieldRule& rule = descriptor->options().GetExtension(config::rule);
    const bool too_small = rule.has_min() && (rule.exclusive_min() ? number <= rule.min() : number < rule.min());
    if (too_small || (rule.has_max() && number > rule.max())) {
      return AddError(key, absl::StrCat(number, " is out of range (", field, " of titan's configuration)"));
    }
    if (is_integer) {
      message.GetReflection()->SetInt64(&message, descriptor, static_cast<int64_t>(number));
    } else {
      message.GetReflection()->SetDouble(&message, descriptor, number);
    }
  }

  bool ReadBool(const char* key, bool fallback) {
    const nlohmann::json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) AddError(key, absl::StrCat(value->dump(), " is not true or false"));
    return value->is_boolean() && value->get<bool>();
  }

  std::string ReadString(const char* key, std::string fallback) {
    const nlohmann::json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) AddError(key, absl::StrCat(value->dump(), " is not a string"));
    return value->is_string() ? value->get<std::string>() : fallback;
  }

 private:
  const nlohmann::json& object_;
  std::string path_;
  std::vector<std::string>& errors_;
};

// llama3 scaling, or none.
void ReadScaling(const nlohmann::json& scaling, const std::string& path, config::Rope& rope,
                 std::vector<std::string>& errors) {
  ObjectReader reader(scaling, path, errors);
  // Files of 2024 and before say "type".
  const char* type_key = reader.Find("rope_type") != nullptr ? "rope_type" : "type";
  const std::string type = reader.ReadString(type_key, "default");
  if (type == "default") return;
  if (type != "llama3") return reader.AddError(type_key, absl::StrCat("\"", type, "\" is not supported yet"));
  rope.set_scaling_type(config::Rope::SCALING_TYPE_LLAMA3);
  reader.ReadNumber("factor", rope, "scaling_factor", std::nullopt);
  reader.ReadNumber("low_freq_factor", rope, "low_freq_factor", std::nullopt);
  reader.ReadNumber("high_freq_factor", rope, "high_freq_factor", std::nullopt);
  reader.ReadNumber("original_max_position_embeddings", rope, "original_max_seq_len", std::nullopt);
}

void ReadRope(ObjectReader& reader, config::Rope& rope, std::vector<std::string>& errors) {
  rope.set_scaling_type(config::Rope::SCALING_TYPE_NONE);
  // Explicit, though without scaling nothing reads them: as the strict configuration reader leaves the message.
  rope.set_scaling_factor(rope.scaling_factor());
  rope.set_low_freq_factor(rope.low_freq_factor());
  rope.set_high_freq_factor(rope.high_freq_factor());
  rope.set_original_max_seq_len(rope.original_max_seq_len());

  reader.ReadNumber("rope_theta", rope, "theta", 10000.0);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* scaling = reader.Find(key);
    if (scaling == nullptr) continue;
    if (!scaling->is_object()) {
      reader.AddError(key, "not an object");
      continue;
    }
    const std::string path = absl::StrCat(key, ".");
    ObjectReader(*scaling, path, errors).ReadNumber("rope_theta", rope, "theta", rope.theta());
    ReadScaling(*scaling, path, rope, errors);
  }
}

void RefuseUnknownFeatures(ObjectReader& reader) {
  const std::string type = reader.ReadString("model_type", "");
  if (type != "llama") reader.AddError("model_type", absl::StrCat("\"", type, "\" is not supported yet; \"llama\" is"));
  const std::string activation = reader.ReadString("hidden_act", "silu");
  if (activation != "silu") reader.AddError("hidden_act", absl::StrCat("\"", activation, "\" is not supported yet"));
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (reader.ReadBool(key, false)) reader.AddError(key, "biases are not supported yet");
  }
  if (reader.Find("quantization_config") != nullptr) {
    reader.AddError("quantization_config", "quantized weights are not supported yet; use the unquantized model");
  }
  if (const nlohmann::json* factor = reader.Find("partial_rotary_factor"); factor != nullptr && *factor != 1) {
    reader.AddError("partial_rotary_factor", "only 1 is supported yet");
  }
}

void CheckHeads(const config::Model& model, ObjectReader& reader) {
  if (model.n_kv_heads() != 0 && model.n_heads() % model.n_kv_heads() != 0) {
    reader.AddError("num_key_value_heads",
                    absl::StrCat(model.n_kv_heads(), " does not divide num_attention_heads, ", model.n_heads()));
  }
  if (model.head_dim() % 2 != 0) {
    reader.AddError("head_dim", absl::StrCat(model.head_dim(), " is odd; RoPE turns pairs"));
  }
}

}  // namespace

absl::StatusOr<config::Model> ModelFromHfConfig(std::string_view json) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonObject(json));
  std::vector<std::string> errors;
  ObjectReader reader(object, "", errors);
  RefuseUnknownFeatures(reader);

  config::Model model;
  model.set_name(config::Model::FAMILY_LLAMA3);
  reader.ReadNumber("hidden_size", model, "dim", std::nullopt);
  reader.ReadNumber("num_hidden_layers", model, "n_layers", std::nullopt);
  reader.ReadNumber("num_attention_heads", model, "n_heads", std::nullopt);
  reader.ReadNumber("intermediate_size", model, "ffn_hidden_dim", std::nullopt);
  reader.ReadNumber("vocab_size", model, "vocab_size", std::nullopt);
  reader.ReadNumber("rms_norm_eps", model, "norm_eps", 1e-6);
  if (model.n_heads() != 0) {  // otherwise the error is there already
    if (reader.Find("head_dim") == nullptr && model.dim() % model.n_heads() != 0) {
      reader.AddError("head_dim", "missing, and num_attention_heads does not divide hidden_size");
    }
    reader.ReadNumber("num_key_value_heads", model, "n_kv_heads", static_cast<double>(model.n_heads()));
    reader.ReadNumber("head_dim", model, "head_dim", static_cast<double>(model.dim() / model.n_heads()));
    CheckHeads(model, reader);
  }
  ReadRope(reader, *model.mutable_rope(), errors);
  model.set_enable_weight_tying(reader.ReadBool("tie_word_embeddings", false));
  model.set_qk_norm(false);
  model.set_sliding_window(0);
  if (!errors.empty()) return absl::InvalidArgumentError(absl::StrJoin(errors, "\n"));
  return model;
}

absl::StatusOr<std::string> HfConfigOf(const config::Model& model, std::string_view dtype,
                                       int64_t max_position_embeddings) {
  if (model.name() != config::Model::FAMILY_LLAMA3) {
    return absl::UnimplementedError(
        absl::StrCat("no Hugging Face config.json for the family ", config::Model::Family_Name(model.name())));
  }
  nlohmann::json scaling;  // null
  const config::Rope& rope = model.rope();
  if (rope.scaling_type() == config::Rope::SCALING_TYPE_LLAMA3) {
    scaling = {{"rope_type", "llama3"},
               {"factor", rope.scaling_factor()},
               {"low_freq_factor", rope.low_freq_factor()},
               {"high_freq_factor", rope.high_freq_factor()},
               {"original_max_position_embeddings", rope.original_max_seq_len()}};
  }
  const nlohmann::json json = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"torch_dtype", std::string(dtype)},
      {"hidden_size", model.dim()},
      {"num_hidden_layers", model.n_layers()},
      {"num_attention_heads", model.n_heads()},
      {"num_key_value_heads", model.n_kv_heads()},
      {"head_dim", model.head_dim()},
      {"intermediate_size", model.ffn_hidden_dim()},
      {"vocab_size", model.vocab_size()},
      {"rms_norm_eps", model.norm_eps()},
      {"rope_theta", rope.theta()},
      {"rope_scaling", scaling},
      {"tie_word_embeddings", model.enable_weight_tying()},
      {"max_position_embeddings", max_position_embeddings},
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"mlp_bias", false},
      // The tokenizer knows them, the weights do not; without this the library assumes 1 and 2.
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
  };
  return json.dump(2) + "\n";
}

}  // namespace titan
