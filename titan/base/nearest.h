// What a misspelt name may have meant.
//
//   Nearest("weigth_decay", {"lr", "weight_decay"})  // "weight_decay"

#ifndef TITAN_BASE_NEAREST_H_
#define TITAN_BASE_NEAREST_H_

#include <string>
#include <string_view>
#include <vector>

namespace titan {

// The candidate that is nearest to `name` by edit distance (case and underscores count little), or "" when none is
// near enough to be what was meant.
std::string Nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace titan

#endif  // TITAN_BASE_NEAREST_H_
