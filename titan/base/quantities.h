// Numbers as a person reads them, for plans and reports.
//
//   FormatBytes(123'456'789);     // "117.74 MiB"
//   FormatCount(8'030'261'248);   // "8,030,261,248"
//   FormatScaled(5.79e10);        // "57.9 G"

#ifndef TITAN_BASE_QUANTITIES_H_
#define TITAN_BASE_QUANTITIES_H_

#include <cstdint>
#include <string>

namespace titan {

inline constexpr double kBytesPerGib = 1024.0 * 1024.0 * 1024.0;

std::string FormatCount(int64_t count);
// B, KiB, MiB, GiB, TiB; two digits after the point.
std::string FormatBytes(int64_t bytes);
// Three significant digits in the words of model sizes: "406 B", "6.16 M", "999".
std::string FormatShortCount(int64_t count);
// Three significant digits and an SI prefix up to yotta: "57.9 G", "712"; a unit follows: FormatScaled(f) + "FLOP".
std::string FormatScaled(double value);
// Two units at most: "850 ms", "8.1 s", "3m52s", "2h05m", "4d03h".
std::string FormatDuration(double seconds);

}  // namespace titan

#endif  // TITAN_BASE_QUANTITIES_H_
