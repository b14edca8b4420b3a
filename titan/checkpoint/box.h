// Boxes: the elements [offsets, offsets + shape) of a tensor in every dimension. Whatever part of a tensor a rank keeps
// is a few of them, which is how checkpoints store it, whoever wrote it. No LibTorch here.
//
//   BoxesOfRange({4, 6}, 3, 20);                   // row 0 from column 3 on, rows 1 and 2, row 3 up to column 2
//   Intersection({{0, 2}, {4, 2}}, {{1, 0}, {2, 3}});  // {{1, 2}, {2, 1}}

#ifndef TITAN_CHECKPOINT_BOX_H_
#define TITAN_CHECKPOINT_BOX_H_

#include <cstdint>
#include <optional>
#include <vector>

namespace titan {

struct Box {
  std::vector<int64_t> offsets;
  std::vector<int64_t> shape;

  int64_t num_elements() const;
};

// The boxes that the elements [begin, end) of a tensor are, when it is read row by row; in that order, and each box's
// elements in that order, too. At most one box for each dimension on either side of the largest one; none if the range
// is empty.
std::vector<Box> BoxesOfRange(const std::vector<int64_t>& shape, int64_t begin, int64_t end);

// nullopt if no element is in both, which have the same number of dimensions.
std::optional<Box> Intersection(const Box& a, const Box& b);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_BOX_H_
