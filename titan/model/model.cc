#include "titan/model/model.h"

#include <utility>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/model/llama3.h"

namespace titan {

absl::StatusOr<std::unique_ptr<Model>> Model::Create(const config::Model& config, const config::Quantize& quantize) {
  TITAN_ASSIGN_OR_RETURN(ModelSpec spec, BuildModelSpec(config));
  switch (config.name()) {
    case config::Model::FAMILY_LLAMA3:
      return MakeLlama3(config, quantize, std::move(spec));
    default:
      return absl::InvalidArgumentError(absl::StrCat("model.name: the family ",
                                                     config::Model::Family_Name(config.name()),
                                                     " is not supported yet; use \"llama3\""));
  }
}

absl::StatusOr<std::unique_ptr<Model>> Model::Create(const config::Model& config) {
  return Create(config, config::Quantize::default_instance());
}

const HeadBlock& Model::head() const {
  CHECK(!blocks_.empty() && blocks_.back()->spec().kind == BlockKind::kHead) << "the last block is not a head";
  return static_cast<const HeadBlock&>(*blocks_.back());
}

}  // namespace titan
