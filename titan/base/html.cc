#include "titan/base/html.h"

#include "absl/strings/str_cat.h"

namespace titan {
namespace {

constexpr std::string_view kStyle = R"css(
:root{--bg:#fbfbfa;--card:#fff;--ink:#1d2430;--dim:#6a7383;--line:#e4e6ea;--accent:#2f6fde;--second:#0f9d76;--third:#c9812b;
--fourth:#8e5bd0;--bad:#c43d3d;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--bg:#14171c;--card:#1c2027;--ink:#e7eaf0;--dim:#98a2b3;--line:#2d333d;
--accent:#6ea2ff;--second:#3fc79f;--third:#e3a655;--fourth:#b48cf0;--bad:#ef7a7a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:36px 24px 56px}
h1{font-size:26px;line-height:1.25;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:16px;margin:34px 0 12px}
.subtitle{color:var(--dim);margin:6px 0 24px;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:13px 16px}
.label{color:var(--dim);font-size:12.5px}
.value{font-size:22px;font-weight:600;letter-spacing:-.01em;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.detail{color:var(--dim);font-size:12.5px;font-variant-numeric:tabular-nums}
.panel{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px;overflow-x:auto}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:12px}
.wide{grid-column:1/-1}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{color:var(--dim);font-weight:500;font-size:12.5px;text-align:right;white-space:nowrap}
th,td{padding:6px 10px;border-bottom:1px solid var(--line)}
td{text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
tr:last-child td{border-bottom:0}
tr.total td{font-weight:600;border-top:2px solid var(--line)}
table.settings td{text-align:left;white-space:normal;overflow-wrap:anywhere;vertical-align:top}
table.settings td:first-child{color:var(--dim);width:26%;white-space:nowrap}
table.settings td:last-child{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:13px}
.note{color:var(--dim);font-size:13.5px}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--dim);font-size:12px;font-variant-numeric:tabular-nums}
svg .title{fill:var(--ink);font-size:14px;font-weight:600}
svg .grid{stroke:var(--line);stroke-width:1}
)css";

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string HtmlCards(absl::Span<const HtmlCard> cards) {
  std::string html = "<div class=\"cards\">\n";
  for (const HtmlCard& card : cards) {
    absl::StrAppend(&html, "<div class=\"card\"><div class=\"label\">", EscapeHtml(card.label),
                    "</div><div class=\"value\">", EscapeHtml(card.value), "</div><div class=\"detail\">",
                    EscapeHtml(card.detail), "</div></div>\n");
  }
  return html + "</div>\n";
}

std::string HtmlSettings(absl::Span<const HtmlSetting> settings) {
  std::string html = "<table class=\"settings\">\n";
  for (const HtmlSetting& setting : settings) {
    absl::StrAppend(&html, "<tr><td>", EscapeHtml(setting.name), "</td><td>", EscapeHtml(setting.value),
                    "</td></tr>\n");
  }
  return html + "</table>\n";
}

std::string HtmlPage(std::string_view title, std::string_view subtitle, std::string_view body) {
  return absl::StrCat("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
                      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                      EscapeHtml(title), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n<main>\n<h1>",
                      EscapeHtml(title), "</h1>\n<p class=\"subtitle\">", EscapeHtml(subtitle), "</p>\n", body,
                      "</main>\n</body>\n</html>\n");
}

}  // namespace titan
