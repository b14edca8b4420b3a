// White space in a text: characters with the Unicode property White_Space.

#ifndef TITAN_DATA_WHITE_SPACE_H_
#define TITAN_DATA_WHITE_SPACE_H_

#include <cstddef>
#include <string_view>

namespace titan {

// `text` must be UTF-8.
size_t LeadingSpace(std::string_view text);   // end of the white space that it begins with
size_t TrailingSpace(std::string_view text);  // start of the white space that it ends with
size_t UntilSpace(std::string_view text);     // start of its first white space; its size if there is none

}  // namespace titan

#endif  // TITAN_DATA_WHITE_SPACE_H_
