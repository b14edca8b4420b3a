// Clipping of all gradients together by their global 2-norm, as torch.nn.utils.clip_grad_norm_ does it.
//
//   const double norm = GlobalNorm(gradients).item<double>();      // kernels/global_norm.h
//   const double scale = ClipCoefficient(norm, /*max_norm=*/1.0);  // the update multiplies each gradient by it
//
// The gradients themselves are never rewritten: kernels/adamw.h applies the coefficient while it reads them.

#ifndef TITAN_OPTIM_GRAD_CLIP_H_
#define TITAN_OPTIM_GRAD_CLIP_H_

#include <algorithm>

namespace titan {

// min(1, max_norm / (norm + 1e-6)).
inline double ClipCoefficient(double norm, double max_norm) { return std::min(1.0, max_norm / (norm + 1e-6)); }

}  // namespace titan

#endif  // TITAN_OPTIM_GRAD_CLIP_H_
