// Which of a block's linear layers compute in float8, by the rules of torchao's converter.

#ifndef TITAN_MODEL_PRECISION_H_
#define TITAN_MODEL_PRECISION_H_

#include <vector>

#include "titan/model/linear.h"
#include "titan/plan/model_spec.h"

namespace titan::config {
class Quantize;
}

namespace titan {

// Of each parameter of the block; kGiven for all that are not matrices of linear layers. A name that contains one of
// quantize.linear.float8.filter_fqns stays as it is; "auto_filter_small_kn" among them stands for the matrices whose
// products are too small to gain: in <= 4096 and out <= 1024.
std::vector<LinearPrecision> PrecisionsOf(const BlockSpec& block, const config::Quantize& quantize);

}  // namespace titan

#endif  // TITAN_MODEL_PRECISION_H_
