#include "titan/optim/muon.h"

#include <algorithm>
#include <cmath>

namespace titan {

at::Tensor Orthogonalize(const at::Tensor& matrix, int64_t steps) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315, kEps = 1e-7;
  // The smaller Gram matrix.
  const bool is_tall = matrix.size(0) > matrix.size(1);
  at::Tensor x = is_tall ? matrix.t() : matrix;
  x = x.div(x.norm().clamp_min(kEps));
  for (int64_t step = 0; step < steps; ++step) {
    const at::Tensor gram = x.mm(x.t());
    const at::Tensor update = gram.addmm(gram, gram, /*beta=*/kB, /*alpha=*/kC);
    x = x.addmm(update, x, /*beta=*/kA);
  }
  return is_tall ? x.t() : x;
}

double MuonLrFactor(MuonLr kind, const std::vector<int64_t>& shape) {
  const double rows = static_cast<double>(shape[0]), columns = static_cast<double>(shape[1]);
  return kind == MuonLr::kOriginal ? std::sqrt(std::max(1.0, rows / columns))
                                   : 0.2 * std::sqrt(std::max(rows, columns));
}

}  // namespace titan
