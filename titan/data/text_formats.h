// The formats of text that data.sources[].format names, as documents.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<TextSource> texts, OpenTexts(source, files));

#ifndef TITAN_DATA_TEXT_FORMATS_H_
#define TITAN_DATA_TEXT_FORMATS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/data/text_source.h"

namespace titan::config {
class Source;
}

namespace titan {

// The documents of `files`, read as the source's format and text_field say. Unimplemented for a format that holds no
// text, or is not supported yet.
absl::StatusOr<std::unique_ptr<TextSource>> OpenTexts(const config::Source& source,
                                                      const std::vector<std::string>& files);

}  // namespace titan

#endif  // TITAN_DATA_TEXT_FORMATS_H_
