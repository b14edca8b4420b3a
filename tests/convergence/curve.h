// The losses of a training run, and whether two runs took the same course.
//
//   absl::StatusOr<Curve> golden = ReadCurve("debug.golden.json");
//   Comparison comparison = Compare(*golden, losses);
//   comparison.largest <= 0.01;   // within 1 % at every step

#ifndef TITAN_TESTS_CONVERGENCE_CURVE_H_
#define TITAN_TESTS_CONVERGENCE_CURVE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

using Curve = std::vector<double>;  // loss of step 1, 2, ...

// A file {"loss": [7.6, ...]}. InvalidArgument if it is anything else, or a loss is not positive.
absl::StatusOr<Curve> ReadCurve(const std::string& path);
absl::Status WriteCurve(const std::string& path, const Curve& curve);

struct Comparison {
  double largest = 0;  // relative difference at the step where it is largest; infinite if a loss is not finite
  int64_t step = 0;    // that step, from 1
};

// InvalidArgument if they have different lengths.
absl::StatusOr<Comparison> Compare(const Curve& golden, const Curve& curve);

}  // namespace titan

#endif  // TITAN_TESTS_CONVERGENCE_CURVE_H_
