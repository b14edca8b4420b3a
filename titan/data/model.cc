#include "titan/data/model.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/data/bpe.h"
#include "titan/data/json.h"
#include "titan/data/unigram.h"

namespace titan {

absl::StatusOr<std::unique_ptr<Model>> Model::FromJson(const nlohmann::json& model, bool byte_level) {
  const std::string type = TypeOf(model);
  if (type == "BPE") return Bpe::FromJson(model, byte_level);
  if (type == "Unigram" && byte_level) {
    return absl::InvalidArgumentError("not supported yet: the model \"Unigram\" with the pre_tokenizer \"ByteLevel\"");
  }
  if (type == "Unigram") return Unigram::FromJson(model);
  return absl::InvalidArgumentError(absl::StrCat("not supported yet: the model \"", type, "\""));
}

std::string ByteFallbackToken(unsigned char byte) { return absl::StrFormat("<0x%02X>", byte); }

}  // namespace titan
