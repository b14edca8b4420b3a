#include "titan/data/text_formats.h"

#include "absl/status/status.h"
#include "titan/config/experiment.pb.h"

namespace titan {

absl::StatusOr<std::unique_ptr<TextSource>> OpenTexts(const config::Source& source,
                                                      const std::vector<std::string>& files) {
  switch (source.format()) {
    case config::Source::FORMAT_TEXT:
      return OpenTextFiles(files);
    case config::Source::FORMAT_JSONL:
      return OpenJsonl(files, source.text_field());
    default:
      return absl::UnimplementedError("this format has no text that can be read");
  }
}

}  // namespace titan
