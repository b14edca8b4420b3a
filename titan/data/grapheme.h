// Extended grapheme clusters (UAX #29): what a reader takes for one character, such as a letter with its accents.

#ifndef TITAN_DATA_GRAPHEME_H_
#define TITAN_DATA_GRAPHEME_H_

#include <cstddef>
#include <string_view>

namespace titan {

// Bytes of the cluster that `text`, which is UTF-8 and not empty, begins with. By the tables of Unicode 17 without rule
// GB9c: a virama does not join Indic letters.
size_t FirstGrapheme(std::string_view text);

}  // namespace titan

#endif  // TITAN_DATA_GRAPHEME_H_
