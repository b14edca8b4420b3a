// Muon (Jordan 2024, kellerjordan.github.io/posts/muon): the step of a matrix is its average of gradients made nearly
// orthogonal. What follows are its formulas; titan/optim/optimizer.h steps with them. Constants and the order of
// operations are torch.optim.Muon's.
//
//   m = momentum m + (1 - momentum) g                  // elementwise, and so in pieces
//   u = g + momentum (m - g)                           // Nesterov; otherwise m
//   p = (1 - lr weight_decay) p - MuonLr(lr) Orthogonalize(u)

#ifndef TITAN_OPTIM_MUON_H_
#define TITAN_OPTIM_MUON_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace titan {

// (rows, columns) -> (rows, columns), of the same dtype: `steps` iterations of Newton-Schulz, X <- a X + (b X X' + c (X
// X')^2) X with (a, b, c) = (3.4445, -4.7750, 2.0315), from the matrix divided by its Frobenius norm (1e-7 at least).
// The polynomial lifts small singular values fast, and leaves all of them between about 0.7 and 1.2; it does not
// converge to 1. The matrix itself is only read.
at::Tensor Orthogonalize(const at::Tensor& matrix, int64_t steps);

// How much a learning rate is multiplied by for a (rows, columns) matrix, so that the steps of matrices of different
// shapes go together: kOriginal sqrt(max(1, rows / columns)) (Jordan), kMatchRmsAdamW 0.2 sqrt(max(rows, columns)),
// which makes the root mean square of a step that of AdamW's (Liu et al. 2025, arXiv:2502.16982).
enum class MuonLr { kOriginal, kMatchRmsAdamW };
double MuonLrFactor(MuonLr kind, const std::vector<int64_t>& shape);

}  // namespace titan

#endif  // TITAN_OPTIM_MUON_H_
