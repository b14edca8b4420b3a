#include "tests/parity/traffic_formulas.h"

#include <algorithm>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/numbers.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/plan/model_spec.h"
#include "titan/plan/pipeline_plan.h"
#include "titan/plan/unit_layout.h"

namespace titan {
namespace {

using config::Parallelism;

constexpr int64_t kFp32 = 4;
constexpr int64_t kFp64 = 8;

// titan/parallel/communicator.h: bytes sent by one of n ranks, for a contribution, a result, a vector of b bytes.
int64_t AllGatherBytes(int64_t n, int64_t b) { return (n - 1) * b; }
int64_t ReduceScatterBytes(int64_t n, int64_t b) { return (n - 1) * b; }
int64_t AllReduceBytes(int64_t n, int64_t b) { return 2 * (n - 1) * b / n; }
int64_t AllToAllBytes(int64_t n, int64_t b) { return (n - 1) * (b / n); }

class Formulas {
 public:
  Formulas(const config::Experiment& experiment, const Mesh& mesh, int64_t rank)
      : experiment_(experiment),
        mesh_(mesh),
        rank_(rank),
        n_(mesh.size({MeshAxis::kDpShard, MeshAxis::kCp})),
        r_(mesh.size(MeshAxis::kDpReplicate)),
        c_(mesh.size(MeshAxis::kCp)),
        t_(mesh.size(MeshAxis::kTp)),
        pp_(mesh.size(MeshAxis::kPp)),
        e_(experiment.training().mixed_precision_param() == config::Training::DTYPE_BFLOAT16 ? 2 : kFp32) {}

  absl::StatusOr<TrafficBytes> Compute() {
    TITAN_ASSIGN_OR_RETURN(spec_, BuildModelSpec(experiment_.model()));
    const config::Training& training = experiment_.training();
    const int64_t rows_per_rank = training.global_batch_size() / (r_ * mesh_.size(MeshAxis::kDpShard));
    const int64_t rows =
        pp_ > 1 ? experiment_.parallelism().pipeline_parallel_microbatch_size() : training.local_batch_size();
    microbatches_ = rows_per_rank / rows;
    tokens_ = rows * training.seq_len() / c_;
    const std::vector<int64_t> forwards = Forwards();
    owned_.assign(spec_.blocks.size(), true);
    if (pp_ > 1) {
      TITAN_ASSIGN_OR_RETURN(const PipelinePlan plan, PlanPipeline(experiment_, spec_, /*csv=*/""));
      AddPipeline(plan);
    }
    for (size_t i = 0; i < spec_.blocks.size(); ++i) {
      if (!owned_[i]) continue;
      TITAN_ASSIGN_OR_RETURN(const UnitLayout unit, LayOutUnit(spec_.blocks[i], t_, n_));
      AddUnit(spec_.blocks[i].kind, unit);
      AddTensorParallel(spec_.blocks[i].kind, forwards[i]);
      if (spec_.blocks[i].kind == BlockKind::kLayer) TITAN_RETURN_IF_ERROR(AddContextParallel(forwards[i]));
    }
    // Loss, sum of squared gradients, wish to stop.
    Add("world.all_reduce", AllReduceBytes(mesh_.world_size(), 3 * kFp64));
    if (experiment_.parallelism().enable_sequence_parallel()) {
      Add("tp.all_reduce", AllReduceBytes(t_, norm_elements_ * kFp32));
    }
    return bytes_;
  }

 private:
  void Add(const std::string& what, int64_t bytes) {
    if (bytes > 0) bytes_[what] += bytes;
  }

  // Then a layer's second forward takes attention and what was scattered from the first.
  bool IsByOperator() const {
    const config::ActivationCheckpoint& config = experiment_.activation_checkpoint();
    return config.mode() == config::ActivationCheckpoint::MODE_SELECTIVE &&
           (config.selective_ac_option() == "op" || config.selective_ac_option() == "elementwise");
  }

  // Forward passes of each block for a microbatch: a second one where a layer is computed again.
  std::vector<int64_t> Forwards() const {
    const config::ActivationCheckpoint& config = experiment_.activation_checkpoint();
    int64_t every = 1;
    if (config.mode() == config::ActivationCheckpoint::MODE_SELECTIVE && !IsByOperator()) {
      CHECK(absl::SimpleAtoi(config.selective_ac_option(), &every));
    }
    std::vector<int64_t> forwards;
    int64_t layer = 0;
    for (const BlockSpec& block : spec_.blocks) {
      const bool can = block.kind == BlockKind::kLayer && config.mode() != config::ActivationCheckpoint::MODE_NONE;
      forwards.push_back(can && ++layer % every == 0 ? 2 : 1);
    }
    return forwards;
  }

  // FSDP, HSDP, DDP: one unit.
  void AddUnit(BlockKind kind, const UnitLayout& unit) {
    const Parallelism& parallelism = experiment_.parallelism();
    const bool is_shared = kind == BlockKind::kEmbedding && experiment_.model().enable_weight_tying();
    const bool keeps = parallelism.fsdp_reshard_after_forward() == Parallelism::RESHARD_AFTER_FORWARD_NEVER || pp_ > 1;
    // In forward and in backward; the head once for both, and with it the table that it shares.
    const int64_t gathers = keeps ? 1 : microbatches_ * (kind == BlockKind::kHead ? 1 : is_shared ? 3 : 2);
    Add("fsdp.all_gather", gathers * AllGatherBytes(n_, unit.shard_size * e_));
    const int64_t reductions = parallelism.fsdp_reduce_every_microbatch() ? microbatches_ : 1;
    Add("fsdp.reduce_scatter", reductions * ReduceScatterBytes(n_, unit.shard_size * kFp32));
    Add("replicate.all_reduce", AllReduceBytes(r_, unit.shard_size * kFp32));
    // Gradients of norms, which lie first.
    const int64_t first = mesh_.RankInGroup({MeshAxis::kDpShard, MeshAxis::kCp}, rank_) * unit.shard_size;
    norm_elements_ += std::clamp<int64_t>(unit.replicated_size - first, 0, unit.shard_size);
  }

  // Bytes of the hidden values that a rank keeps of a microbatch between blocks.
  int64_t HiddenBytes() const {
    const int64_t tokens = experiment_.parallelism().enable_sequence_parallel() ? tokens_ / t_ : tokens_;
    return tokens * experiment_.model().dim() * e_;
  }

  // Tensor, sequence and loss parallelism: one block.
  void AddTensorParallel(BlockKind kind, int64_t forwards) {
    const Parallelism& parallelism = experiment_.parallelism();
    const bool is_layer = kind == BlockKind::kLayer;
    // A layer gathers and scatters twice forward and twice backward; embedding and head do one of them each way.
    const int64_t gathers = microbatches_ * (is_layer ? 2 * forwards + 2 : 1);
    const int64_t scatters = is_layer && IsByOperator() ? microbatches_ * 4 : gathers;
    if (!parallelism.enable_sequence_parallel()) {
      Add("tp.all_reduce", scatters * AllReduceBytes(t_, HiddenBytes()));
    } else if (is_layer && parallelism.enable_async_tensor_parallel()) {
      Add("tp.send", (gathers + scatters) * (t_ - 1) * HiddenBytes());
    } else {
      Add("tp.all_gather", gathers * AllGatherBytes(t_, HiddenBytes()));
      Add("tp.reduce_scatter", scatters * ReduceScatterBytes(t_, HiddenBytes()));
    }
    if (kind != BlockKind::kHead) return;
    if (parallelism.disable_loss_parallel()) {
      Add("tp.all_gather", microbatches_ * AllGatherBytes(t_, tokens_ * experiment_.model().vocab_size() / t_ * e_));
      return;
    }
    // Of every token the largest logit; then the sum of exponentials, and the label's logit. In one chunk.
    Add("tp.all_reduce", microbatches_ * AllReduceBytes(t_, tokens_ * kFp32));
    Add("tp.all_reduce", microbatches_ * AllReduceBytes(t_, 2 * tokens_ * kFp32));
  }

  // One layer.
  absl::Status AddContextParallel(int64_t forwards) {
    const config::Model& model = experiment_.model();
    const int64_t head = tokens_ * model.head_dim() * e_;  // one head of this rank's tokens
    const int64_t queries = model.n_heads() / t_ * head, keys = model.n_kv_heads() / t_ * head;
    switch (experiment_.parallelism().context_parallel_rotate_method()) {
      case Parallelism::CONTEXT_PARALLEL_ROTATE_METHOD_ALLGATHER:  // keys and values
        Add("cp.all_gather", microbatches_ * forwards * 2 * AllGatherBytes(c_, keys));
        Add("cp.reduce_scatter", microbatches_ * 2 * ReduceScatterBytes(c_, keys));
        return absl::OkStatus();
      case Parallelism::CONTEXT_PARALLEL_ROTATE_METHOD_ULYSSES:  // queries, keys, values, and back the outputs
        Add("cp.all_to_all",
            microbatches_ * (forwards + 1) * (2 * AllToAllBytes(c_, queries) + 2 * AllToAllBytes(c_, keys)));
        return absl::OkStatus();
      case Parallelism::CONTEXT_PARALLEL_ROTATE_METHOD_ALLTOALL:  // keys and values; backward they and their gradients
        Add("cp.send",
            microbatches_ * 2 * (c_ - 1) * ((IsByOperator() ? 1 : forwards) * keys + keys + keys / e_ * kFp32));
        return absl::OkStatus();
      default:
        return absl::UnimplementedError("no formula for this context_parallel_rotate_method");
    }
  }

  // Hidden values forward and their gradients backward, over every boundary between stages of different ranks.
  void AddPipeline(const PipelinePlan& plan) {
    const int64_t mine = mesh_.Coordinate(MeshAxis::kPp, rank_);
    owned_.assign(spec_.blocks.size(), false);
    const int64_t stages = plan.schedule.num_stages;
    for (int64_t stage = 0; stage < stages; ++stage) {
      if (plan.schedule.rank_of_stage[stage] != mine) continue;
      for (int64_t block = plan.stages[stage].begin; block < plan.stages[stage].end; ++block) owned_[block] = true;
      for (const int64_t neighbour : {stage - 1, stage + 1}) {
        const bool is_remote = neighbour >= 0 && neighbour < stages && plan.schedule.rank_of_stage[neighbour] != mine;
        if (is_remote) Add("pp.send", microbatches_ * HiddenBytes());
      }
    }
  }

  const config::Experiment& experiment_;
  const Mesh& mesh_;
  const int64_t rank_;
  const int64_t n_, r_, c_, t_, pp_;  // ranks of FSDP, replicas, of context and tensor parallelism, of the pipeline
  const int64_t e_;                   // bytes of the compute dtype
  ModelSpec spec_;
  int64_t microbatches_ = 0;  // of this rank in a step
  int64_t tokens_ = 0;        // of a microbatch on this rank, before sequence parallelism
  std::vector<bool> owned_;   // of each block
  int64_t norm_elements_ = 0;
  TrafficBytes bytes_;
};

}  // namespace

absl::StatusOr<TrafficBytes> ExpectedTraffic(const config::Experiment& experiment, const Mesh& mesh, int64_t rank) {
  return Formulas(experiment, mesh, rank).Compute();
}

}  // namespace titan
