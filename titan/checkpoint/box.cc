#include "titan/checkpoint/box.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace titan {
namespace {

// The boxes of the elements [begin, end) of what lies behind `prefix`, the indices into the first dimensions.
void AddBoxes(const std::vector<int64_t>& shape, const std::vector<int64_t>& prefix, int64_t begin, int64_t end,
              std::vector<Box>& boxes) {
  const size_t dimension = prefix.size();
  int64_t row = 1;  // elements of an index into `dimension`
  for (size_t d = dimension + 1; d < shape.size(); ++d) row *= shape[d];
  const auto add_part_of_row = [&](int64_t index, int64_t row_begin, int64_t row_end) {
    std::vector<int64_t> longer = prefix;
    longer.push_back(index);
    AddBoxes(shape, longer, row_begin, row_end, boxes);
  };
  if (begin % row != 0) {
    const int64_t index = begin / row, stop = std::min(end, (index + 1) * row);
    add_part_of_row(index, begin - index * row, stop - index * row);
    begin = stop;
  }
  if (const int64_t count = (end - begin) / row; count > 0) {
    Box box{.offsets = prefix, .shape = std::vector<int64_t>(dimension, 1)};
    box.offsets.push_back(begin / row);
    box.shape.push_back(count);
    for (size_t d = dimension + 1; d < shape.size(); ++d) {
      box.offsets.push_back(0);
      box.shape.push_back(shape[d]);
    }
    boxes.push_back(std::move(box));
    begin += count * row;
  }
  if (begin < end) add_part_of_row(begin / row, 0, end - begin);
}

}  // namespace

int64_t Box::num_elements() const {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

std::vector<Box> BoxesOfRange(const std::vector<int64_t>& shape, int64_t begin, int64_t end) {
  std::vector<Box> boxes;
  if (begin >= end) return boxes;
  if (shape.empty()) return {Box{}};
  AddBoxes(shape, {}, begin, end, boxes);
  return boxes;
}

std::optional<Box> Intersection(const Box& a, const Box& b) {
  Box both;
  for (size_t d = 0; d < a.shape.size(); ++d) {
    const int64_t begin = std::max(a.offsets[d], b.offsets[d]);
    const int64_t end = std::min(a.offsets[d] + a.shape[d], b.offsets[d] + b.shape[d]);
    if (begin >= end) return std::nullopt;
    both.offsets.push_back(begin);
    both.shape.push_back(end - begin);
  }
  return both;
}

}  // namespace titan
