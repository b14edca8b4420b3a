#include "titan/config/number_text.h"

#include <charconv>
#include <cmath>

namespace titan {

std::string ShortestDouble(double value) {
  char buffer[64];
  const bool plain = value == 0 || (std::abs(value) >= 1e-3 && std::abs(value) < 1e16);
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  std::string text(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value, format).ptr);
  // 1e-05 is 1e-5.
  if (const size_t zero = text.find("e-0"); zero != std::string::npos) text.erase(zero + 2, 1);
  return text;
}

}  // namespace titan
