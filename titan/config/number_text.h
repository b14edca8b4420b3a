// Numbers as people write them.

#ifndef TITAN_CONFIG_NUMBER_TEXT_H_
#define TITAN_CONFIG_NUMBER_TEXT_H_

#include <string>

namespace titan {

// The shortest text that reads back to the same double, with an exponent only where people would write one.
std::string ShortestDouble(double value);

}  // namespace titan

#endif  // TITAN_CONFIG_NUMBER_TEXT_H_
