#include "titan/checkpoint/box.h"

#include <random>
#include <set>

#include "gtest/gtest.h"

namespace titan {
namespace {

// The numbers of a box's elements in the tensor, in the box's order.
std::vector<int64_t> ElementsOf(const Box& box, const std::vector<int64_t>& shape) {
  std::vector<int64_t> elements = {0};
  for (size_t d = 0; d < shape.size(); ++d) {
    std::vector<int64_t> next;
    for (const int64_t element : elements) {
      for (int64_t i = 0; i < box.shape[d]; ++i) next.push_back(element * shape[d] + box.offsets[d] + i);
    }
    elements = next;
  }
  return elements;
}

TEST(Box, EveryRangeIsItsBoxesInOrder) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{7}, {4, 6}, {1, 5}, {5, 1}, {2, 3, 4}, {3, 1, 2, 2}, {}}) {
    int64_t size = 1;
    for (const int64_t extent : shape) size *= extent;
    for (int64_t begin = 0; begin <= size; ++begin) {
      for (int64_t end = begin; end <= size; ++end) {
        const std::vector<Box> boxes = BoxesOfRange(shape, begin, end);
        EXPECT_LE(boxes.size(), shape.empty() ? 1 : 2 * shape.size() - 1);
        std::vector<int64_t> elements;
        for (const Box& box : boxes) {
          const std::vector<int64_t> more = ElementsOf(box, shape);
          EXPECT_EQ(static_cast<int64_t>(more.size()), box.num_elements());
          elements.insert(elements.end(), more.begin(), more.end());
        }
        ASSERT_EQ(static_cast<int64_t>(elements.size()), end - begin) << begin << " " << end;
        for (int64_t i = begin; i < end; ++i) ASSERT_EQ(elements[i - begin], i);
      }
    }
  }
}

TEST(Box, OfATensorWithoutElementsThereIsNone) {
  EXPECT_TRUE(BoxesOfRange({0, 3}, 0, 0).empty());
  EXPECT_TRUE(BoxesOfRange({3, 0}, 0, 0).empty());
}

TEST(Box, IntersectionHoldsTheElementsOfBoth) {
  const std::vector<int64_t> shape = {4, 5, 3};
  std::mt19937 random(1);
  const auto draw = [&] {
    Box box;
    for (const int64_t extent : shape) {
      box.offsets.push_back(static_cast<int64_t>(random() % extent));
      box.shape.push_back(1 + static_cast<int64_t>(random() % (extent - box.offsets.back())));
    }
    return box;
  };
  for (int i = 0; i < 500; ++i) {
    const Box a = draw(), b = draw();
    const std::vector<int64_t> in_a = ElementsOf(a, shape), in_b = ElementsOf(b, shape);
    const std::set<int64_t> others(in_b.begin(), in_b.end());
    std::vector<int64_t> expected;
    for (const int64_t element : in_a) {
      if (others.count(element) > 0) expected.push_back(element);
    }
    const std::optional<Box> both = Intersection(a, b);
    EXPECT_EQ(both ? ElementsOf(*both, shape) : std::vector<int64_t>(), expected);
  }
}

}  // namespace
}  // namespace titan
