// The frame of every page that Titan writes: one file with its style inside, nothing loaded from elsewhere, light and
// dark after the reader's setting. Plan and report fill it.
//
//   const std::string page = HtmlPage("Plan of " + name, HtmlCards({{"parameters", "8.03 B", ""}}) + table);

#ifndef TITAN_BASE_HTML_H_
#define TITAN_BASE_HTML_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace titan {

// `text` as it should appear in an element or a quoted attribute.
std::string EscapeHtml(std::string_view text);

// One number that matters, large: label, value, and a small line below it. Plain text.
struct HtmlCard {
  std::string label;
  std::string value;
  std::string detail;
};
std::string HtmlCards(absl::Span<const HtmlCard> cards);

// A two-column table of settings. Plain text.
struct HtmlSetting {
  std::string name;
  std::string value;
};
std::string HtmlSettings(absl::Span<const HtmlSetting> settings);

// `title` is plain text, shown as the heading too; `subtitle` is plain text below it; `body` is HTML.
std::string HtmlPage(std::string_view title, std::string_view subtitle, std::string_view body);

}  // namespace titan

#endif  // TITAN_BASE_HTML_H_
