#include "titan/optim/optimizer.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "kernels/adamw.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kExpAvg[] = "optimizer.exp_avg.";
constexpr char kExpAvgSq[] = "optimizer.exp_avg_sq.";
constexpr char kMomentum[] = "optimizer.momentum.";

int64_t Count(const Parameters::Piece& piece) { return piece.end - piece.begin; }

// What is here of a parameter, flat.
at::Tensor Flat(const Parameters::Piece& piece, const std::vector<at::Tensor>& units) {
  return units[piece.unit].narrow(0, piece.offset, Count(piece));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Optimizer>> Optimizer::Create(const config::Optimizer& config, const ModelSpec& spec,
                                                             const Parameters& parameters, const ParallelGroups& groups,
                                                             const Options& options) {
  TITAN_ASSIGN_OR_RETURN(ParamGroups param_groups, ResolveParamGroups(config, spec));
  auto optimizer = std::unique_ptr<Optimizer>(new Optimizer(config, std::move(param_groups), parameters, options));
  optimizer->MakeRuns();
  optimizer->MakeState(config.state_in_bfloat16());
  std::vector<WholeMatrices::Matrix> matrices;
  for (const size_t index : optimizer->matrices_) {
    const Parameters::Piece& piece = parameters.pieces()[index];
    matrices.push_back({.shape = piece.shape,
                        .split = piece.split,
                        .local_shape = piece.local_shape,
                        .start = piece.start,
                        .shard_size = parameters.masters()[piece.unit].numel()});
  }
  optimizer->whole_matrices_ = std::make_unique<WholeMatrices>(groups, std::move(matrices));
  return optimizer;
}

Optimizer::Optimizer(const config::Optimizer& config, ParamGroups param_groups, const Parameters& parameters,
                     const Options& options)
    : param_groups_(std::move(param_groups)),
      parameters_(parameters),
      options_(options),
      momentum_(config.momentum()),
      nesterov_(config.nesterov()),
      ns_steps_(config.ns_steps()),
      muon_lr_(config.adjust_lr_fn() == config::Optimizer::ADJUST_LR_ORIGINAL ? MuonLr::kOriginal
                                                                              : MuonLr::kMatchRmsAdamW),
      runs_(param_groups_.groups.size()) {}

// A unit that one group has is one run, padding included; otherwise pieces of a group that follow each other are.
void Optimizer::MakeRuns() {
  std::vector<std::vector<size_t>> pieces_of(parameters_.masters().size());
  for (size_t i = 0; i < parameters_.pieces().size(); ++i) pieces_of[parameters_.pieces()[i].unit].push_back(i);
  const auto group_of = [&](size_t piece) { return param_groups_.index_of.at(parameters_.pieces()[piece].name); };
  for (size_t unit = 0; unit < pieces_of.size(); ++unit) {
    std::vector<size_t>& pieces = pieces_of[unit];
    std::stable_sort(pieces.begin(), pieces.end(),
                     [&](size_t a, size_t b) { return parameters_.pieces()[a].start < parameters_.pieces()[b].start; });
    const size_t first_group = group_of(pieces.front());
    const bool is_one_group =
        std::all_of(pieces.begin(), pieces.end(), [&](size_t piece) { return group_of(piece) == first_group; });
    if (is_one_group && !param_groups_.groups[first_group].is_muon) {
      runs_[first_group].push_back({.unit = unit, .begin = 0, .end = parameters_.masters()[unit].numel()});
      continue;
    }
    size_t last_group = runs_.size();  // nobody's
    for (const size_t index : pieces) {
      const Parameters::Piece& piece = parameters_.pieces()[index];
      const size_t group = group_of(index);
      if (param_groups_.groups[group].is_muon) {
        matrices_.push_back(index);  // on every rank, whether it has some of it or not
      } else if (Count(piece) > 0 && group == last_group) {
        runs_[group].back().end = piece.offset + Count(piece);
      } else if (Count(piece) > 0) {
        runs_[group].push_back({.unit = unit, .begin = piece.offset, .end = piece.offset + Count(piece)});
      }
      if (Count(piece) > 0) last_group = group;
    }
  }
}

void Optimizer::MakeState(bool in_bfloat16) {
  for (size_t unit = 0; unit < parameters_.masters().size(); ++unit) {
    const at::Tensor& master = parameters_.masters()[unit];
    const bool rounds = in_bfloat16 && master.scalar_type() == at::kFloat;
    const at::TensorOptions options = master.options().dtype(rounds ? at::kBFloat16 : master.scalar_type());
    bool has_matrices = false;
    for (const size_t index : matrices_) has_matrices |= parameters_.pieces()[index].unit == unit;
    int64_t num_squares = has_matrices ? 0 : master.numel();  // as NumSquares has it
    for (const std::vector<Run>& runs : runs_) {
      for (const Run& run : runs) {
        if (run.unit == unit) num_squares = std::max(num_squares, run.end);
      }
    }
    averages_.push_back(at::zeros({master.numel()}, options));
    squares_.push_back(at::zeros({num_squares}, options));
  }
}

void Optimizer::Update(double lr_factor, double gradient_scale) {
  ++num_updates_;
  for (size_t group = 0; group < runs_.size(); ++group) UpdateRuns(group, lr_factor, gradient_scale);
  UpdateMatrices(lr_factor, gradient_scale);
}

void Optimizer::UpdateRuns(size_t group, double lr_factor, double gradient_scale) {
  const std::vector<Run>& runs = runs_[group];
  if (runs.empty()) return;
  const auto views = [&](const std::vector<at::Tensor>& units) {
    std::vector<at::Tensor> result;
    if (units.empty()) return result;
    for (const Run& run : runs) result.push_back(units[run.unit].narrow(0, run.begin, run.end - run.begin));
    return result;
  };
  const ParamGroupSettings& settings = param_groups_.groups[group];
  AdamWStep({.parameters = views(parameters_.masters()),
             .gradients = views(parameters_.gradients()),
             .exp_avg = views(averages_),
             .exp_avg_sq = views(squares_),
             .copies = views(parameters_.copies())},
            {.lr = settings.lr * lr_factor,
             .beta1 = settings.beta1,
             .beta2 = settings.beta2,
             .eps = settings.eps,
             .weight_decay = settings.weight_decay,
             .num_updates = num_updates_,
             .gradient_scale = gradient_scale});
}

void Optimizer::UpdateMatrices(double lr_factor, double gradient_scale) {
  if (matrices_.empty()) return;
  std::vector<at::Tensor> directions;  // of each matrix: this rank's piece of what is to be orthogonalised
  for (const size_t index : matrices_) {
    const Parameters::Piece& piece = parameters_.pieces()[index];
    const at::Tensor gradient = Flat(piece, parameters_.gradients()).mul(gradient_scale);
    const at::Tensor stored = Flat(piece, averages_);
    const at::Tensor average = stored.to(gradient.scalar_type());
    average.lerp_(gradient, 1 - momentum_);
    if (!average.is_same(stored)) stored.copy_(average);
    const at::Tensor direction = nesterov_ ? gradient.lerp(average, momentum_) : average;
    directions.push_back(direction.to(options_.device, options_.matrix_dtype));
  }
  const std::vector<at::Tensor> steps =
      whole_matrices_->Map(directions, [&](const at::Tensor& matrix) { return Orthogonalize(matrix, ns_steps_); });
  const std::vector<at::Tensor> copies = parameters_.copies();
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const Parameters::Piece& piece = parameters_.pieces()[matrices_[i]];
    const ParamGroupSettings& settings = param_groups_.Of(piece.name);
    const double lr = settings.lr * lr_factor;
    const at::Tensor parameter = Flat(piece, parameters_.masters());
    parameter.mul_(1 - lr * settings.weight_decay);
    parameter.add_(steps[i].to(parameter.device()), -lr * MuonLrFactor(muon_lr_, piece.shape));
    if (!copies.empty()) Flat(piece, copies).copy_(parameter);
  }
}

std::vector<std::pair<std::string, const std::vector<at::Tensor>*>> Optimizer::StateUnits() const {
  std::vector<std::pair<std::string, const std::vector<at::Tensor>*>> units = {{kExpAvg, &averages_},
                                                                               {kExpAvgSq, &squares_}};
  const bool has_muon = std::any_of(param_groups_.groups.begin(), param_groups_.groups.end(),
                                    [](const ParamGroupSettings& settings) { return settings.is_muon; });
  if (has_muon) units.emplace_back(kMomentum, &averages_);
  return units;
}

bool Optimizer::HasState(std::string_view prefix, const std::string& parameter) const {
  if (prefix == kMomentum) return param_groups_.Of(parameter).is_muon;
  if (prefix == kExpAvg || prefix == kExpAvgSq) return !param_groups_.Of(parameter).is_muon;
  return true;
}

}  // namespace titan
