#include "titan/base/html.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(HtmlTest, Escapes) {
  EXPECT_EQ(EscapeHtml("a < b & \"c\" > 'd'"), "a &lt; b &amp; &quot;c&quot; &gt; &#39;d&#39;");
  EXPECT_EQ(EscapeHtml("Größe ≥ 3"), "Größe ≥ 3");
}

TEST(HtmlTest, EveryPlainTextIsEscaped) {
  const std::string evil = "<script>alert(1)</script>";
  const std::string page = HtmlPage(evil, evil, HtmlCards({{evil, evil, evil}}) + HtmlSettings({{evil, evil}}));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

TEST(HtmlTest, NothingIsLoadedFromElsewhere) {
  const std::string page = HtmlPage("t", "s", "<p>body</p>");
  for (const char* loader : {"http:", "https:", "src=", "url(", "@import", "<link"}) {
    EXPECT_THAT(page, Not(HasSubstr(loader)));
  }
  EXPECT_THAT(page, HasSubstr("<p>body</p>"));
}

}  // namespace
}  // namespace titan
