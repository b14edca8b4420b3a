#include "kernels/attention_tiles.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace titan {
namespace {

// One key head with `group` query heads, and everything that forward and backward write.
template <typename T>
struct Example {
  AttentionSizes sizes;
  std::vector<int64_t> first_key, end_key;
  std::vector<T> queries, keys, values, dout;  // (tokens, group, dim), or (tokens, dim)
  std::vector<T> out, normalizer, dqueries, dkeys, dvalues;
};

template <typename T>
Example<T> MakeExample(const AttentionSizes& sizes) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  const auto draw = [&](int64_t tokens, int64_t heads) {
    std::vector<T> values(tokens * heads * sizes.dim);
    for (T& value : values) value = normal(generator);
    return values;
  };
  Example<T> example;
  example.sizes = sizes;
  for (int64_t i = 0; i < sizes.queries; ++i) {
    const bool starts = i == 0 || generator() % 23 == 0;
    example.first_key.push_back(std::min(starts ? i : example.first_key.back(), sizes.keys));
    example.end_key.push_back(std::min(i + 1, sizes.keys));
  }
  example.queries = draw(sizes.queries, sizes.group);
  example.keys = draw(sizes.keys, 1);
  example.values = draw(sizes.keys, 1);
  example.dout = draw(sizes.queries, sizes.group);
  return example;
}

template <typename T>
void RunTiles(const AttentionTiles<T>& tiles, Example<T>& e) {
  const AttentionSizes& s = e.sizes;
  const auto grouped = [&](auto& x) { return AttentionHeads{x.data(), s.dim, s.group * s.dim}; };
  const auto single = [&](auto& x) { return AttentionHeads{x.data(), int64_t{0}, s.dim}; };
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(s.dim)));
  e.out.assign(e.queries.size(), T(99));
  e.dqueries = e.out;
  e.dkeys.assign(e.keys.size(), T(99));
  e.dvalues = e.dkeys;
  e.normalizer.assign(s.group * s.queries, T(99));

  const std::vector<T>&queries = e.queries, &keys = e.keys, &values = e.values, &out = e.out, &dout = e.dout;
  std::vector<T> scratch(tiles.forward_scratch(s), T(NAN));
  const AttentionInputs<T> in{.sizes = s,
                              .scale = scale,
                              .first_key = e.first_key.data(),
                              .end_key = e.end_key.data(),
                              .queries = grouped(queries),
                              .keys = single(keys),
                              .values = single(values)};
  tiles.forward({.in = in, .out = grouped(e.out), .normalizer = e.normalizer.data()}, scratch.data());
  scratch.assign(tiles.backward_scratch(s), T(NAN));
  tiles.backward({.in = in,
                  .out = grouped(out),
                  .dout = grouped(dout),
                  .normalizer = e.normalizer.data(),
                  .dqueries = grouped(e.dqueries),
                  .dkeys = single(e.dkeys),
                  .dvalues = single(e.dvalues)},
                 scratch.data());
}

double LargestError(const std::vector<float>& actual, const std::vector<double>& expected) {
  double error = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isinf(expected[i]) && actual[i] == expected[i]) continue;
    const double difference = std::abs(actual[i] - expected[i]);
    error = std::isnan(difference) ? difference : std::max(error, difference);
    if (std::isnan(error)) return error;
    largest = std::max(largest, std::abs(expected[i]));
  }
  return error / std::max(largest, 0.01);
}

struct Variant {
  const char* name;
  const AttentionTiles<float>* tiles;
  bool supported;
};

// attention_test compares the fp64 loops with the formula; here the fp32 loops of every instruction set that this
// machine has are compared with them.
TEST(AttentionTilesTest, InstructionSetsAgree) {
  const Variant variants[] = {
      {"baseline", &simd_baseline::kAttentionTiles, true},
      {"avx2", &simd_avx2::kAttentionTiles, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
      {"avx512", &simd_avx512::kAttentionTiles,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl")}};
  const AttentionSizes
      shapes[] = {{1, 1, 1, 1},     {7, 7, 2, 3},       {8, 8, 1, 4},      {33, 33, 3, 16},
                  {64, 64, 1, 20},  {65, 65, 2, 40},    {130, 130, 1, 64}, {257, 257, 2, 24},
                  {100, 57, 2, 16}, {300, 300, 2, 128}, {600, 600, 2, 64}};  // the last two in blocks of keys
  for (const AttentionSizes& sizes : shapes) {
    Example<double> expected = MakeExample<double>(sizes);
    RunTiles(simd_baseline::kAttentionTilesDouble, expected);
    for (const Variant& variant : variants) {
      if (!variant.supported) continue;
      SCOPED_TRACE(std::string(variant.name) + ", " + std::to_string(sizes.queries) + " tokens, " +
                   std::to_string(sizes.dim) + " elements");
      Example<float> actual = MakeExample<float>(sizes);
      RunTiles(*variant.tiles, actual);
      EXPECT_LE(LargestError(actual.out, expected.out), 2e-6);
      EXPECT_LE(LargestError(actual.normalizer, expected.normalizer), 2e-6);
      EXPECT_LE(LargestError(actual.dqueries, expected.dqueries), 4e-6);
      EXPECT_LE(LargestError(actual.dkeys, expected.dkeys), 4e-6);
      EXPECT_LE(LargestError(actual.dvalues, expected.dvalues), 4e-6);
    }
  }
}

}  // namespace
}  // namespace titan
