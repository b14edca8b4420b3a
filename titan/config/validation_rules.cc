#include "titan/config/validation_rules.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "titan/config/experiment.pb.h"

namespace titan {

void ValidationHasSources(const config::Experiment& experiment, ConfigErrors& errors) {
  const config::Validation& validation = experiment.validation();
  if (!validation.enable()) return;
  const bool holds_out = std::any_of(
      experiment.data().sources().begin(), experiment.data().sources().end(),
      [](const config::Source& source) { return source.validation_split() > 0 || source.validation_documents() > 0; });
  if (validation.sources().empty() && !holds_out) {
    errors.Add("validation.sources",
               "missing; validation.enable needs at least one source, or documents that data.sources hold out "
               "(validation_split or validation_documents)");
  } else if (!validation.sources().empty() && validation.sources(0).corpus() == "synthetic" &&
             validation.steps() == -1) {
    errors.Add("validation.steps", "-1 is the whole set, but \"synthetic\" never ends; say how many batches");
  }
  // A mixture ends with its first source: no longer the whole set, and none of it twice.
  for (int i = 0; i < validation.sources_size(); ++i) {
    if (validation.sources(i).weight() == 1) continue;
    errors.Add(absl::StrCat("validation.sources.", i, ".weight"),
               "only data.sources are drawn by weight; validation reads every source to its end");
  }
}

// The same sequences for validation as for training: what the mesh cuts must be divisible.
void ValidationShapes(const config::Experiment& experiment, ConfigErrors& errors) {
  const config::Validation& validation = experiment.validation();
  if (!validation.enable()) return;
  const config::Parallelism& parallelism = experiment.parallelism();
  if (validation.seq_len() > experiment.model().max_seq_len()) {
    errors.Add("validation.seq_len",
               absl::StrCat(validation.seq_len(), " is above model.max_seq_len = ", experiment.model().max_seq_len()));
  }
  const int64_t cp = parallelism.context_parallel_degree();
  const int64_t tp = parallelism.enable_sequence_parallel() ? parallelism.tensor_parallel_degree() : 1;
  const int64_t divisor = tp * (cp > 1 ? 2 * cp : 1);
  if (validation.seq_len() % divisor != 0) {
    errors.Add("validation.seq_len", absl::StrCat(validation.seq_len(), " is not divisible by ", divisor, " = tp ", tp,
                                                  cp > 1 ? absl::StrCat(" x 2 x cp ", cp) : ""));
  }
  const bool has_pipeline = parallelism.pipeline_parallel_degree() > 1;
  const int64_t rows = has_pipeline ? parallelism.pipeline_parallel_microbatch_size() : validation.local_batch_size();
  if (validation.local_batch_size() % rows != 0) {
    errors.Add("validation.local_batch_size",
               absl::StrCat(validation.local_batch_size(),
                            " is not a multiple of parallelism.pipeline_parallel_microbatch_size = ", rows));
  }
  const bool float8 =
      experiment.quantize().linear().float8().recipe_name() != config::Quantize::Float8::RECIPE_NAME_NONE;
  if (float8 && rows * validation.seq_len() / cp % 16 != 0) {
    errors.Add("validation.seq_len",
               absl::StrCat("the number of tokens of a microbatch on one rank is ", rows * validation.seq_len() / cp,
                            ", which quantize.linear.float8 wants to be a multiple of 16"));
  }
}

}  // namespace titan
