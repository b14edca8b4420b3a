// Names of parameters here and in Hugging Face's files. One table for each model family: hf_llama3.cc, ...
//
//   TITAN_ASSIGN_OR_RETURN(const HfNames names, HfNames::Of(model));
//   names.ToHf("layers.3.attention.wq.weight");  // "model.layers.3.self_attn.q_proj.weight"

#ifndef TITAN_CHECKPOINT_HF_NAMES_H_
#define TITAN_CHECKPOINT_HF_NAMES_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace titan::config {
class Model;
}

namespace titan {

// One row of a table. "{N}" stands for a layer's number, the same on both sides.
struct HfNamePair {
  std::string_view titan;
  std::string_view hf;
};

class HfNames {
 public:
  // Unimplemented for families without a table.
  static absl::StatusOr<HfNames> Of(const config::Model& model);

  // nullopt if no row matches.
  std::optional<std::string> ToHf(std::string_view titan_name) const;
  std::optional<std::string> ToTitan(std::string_view hf_name) const;
  // Whether published files may hold a tensor of this name that is no parameter and is to be skipped.
  bool IsIgnored(std::string_view hf_name) const;

 private:
  friend HfNames Llama3HfNames();

  HfNames(absl::Span<const HfNamePair> parameters, absl::Span<const std::string_view> ignored)
      : parameters_(parameters), ignored_(ignored) {}

  absl::Span<const HfNamePair> parameters_;  // static storage
  absl::Span<const std::string_view> ignored_;
};

// hf_llama3.cc
HfNames Llama3HfNames();

}  // namespace titan

#endif  // TITAN_CHECKPOINT_HF_NAMES_H_
