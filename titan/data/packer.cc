#include "titan/data/packer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"

namespace titan {

void Pad(int64_t begin, absl::Span<int64_t> tokens, absl::Span<int64_t> labels, absl::Span<int64_t> positions) {
  for (size_t i = begin; i < tokens.size(); ++i) {
    tokens[i] = 0;
    labels[i] = -100;
    positions[i] = static_cast<int64_t>(i) - begin;
  }
}

Packer::Packer(const DocumentSource* documents, const PackerOptions& options)
    : documents_(documents), options_(options) {
  Seek({});
}

void Packer::Seek(const StreamPosition& position) {
  position_ = position;
  order_.emplace(documents_->size(), options_.seed, position_.epoch);
  document_.reset();
  epoch_is_empty_ = position_.document == 0 && position_.offset == 0;
}

int64_t Packer::CurrentIndex() const { return options_.shuffle ? (*order_)(position_.document) : position_.document; }

absl::Status Packer::CheckIds(int64_t begin, int64_t end) const {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t id = (*document_)[i];
    if (id < 0 || id >= options_.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(documents_->Where(CurrentIndex()), ": token ", i, " is ", id,
                                                     ", and model.vocab_size is ", options_.vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::Status Packer::ReadDocument() {
  TITAN_ASSIGN_OR_RETURN(document_, documents_->Read(CurrentIndex()));
  if (position_.offset > std::max<int64_t>(document_->size() - 1, 0)) {
    return absl::InvalidArgumentError(absl::StrCat(documents_->Where(CurrentIndex()), ": has no token ",
                                                   position_.offset, ", where the stream should continue"));
  }
  return absl::OkStatus();
}

absl::Status Packer::FindDocument() {
  while (true) {
    if (position_.document == documents_->size()) {
      if (epoch_is_empty_) return absl::InvalidArgumentError("no document has two tokens or more");
      if (!options_.repeat) return absl::OutOfRangeError("the corpus has ended, and data.repeat is false");
      Seek({position_.epoch + 1, 0, 0});
    }
    if (!document_.has_value()) TITAN_RETURN_IF_ERROR(ReadDocument());
    if (position_.offset + 1 < document_->size()) {
      epoch_is_empty_ = false;
      return absl::OkStatus();
    }
    document_.reset();
    ++position_.document;
    position_.offset = 0;
  }
}

absl::Status Packer::NextRow(absl::Span<int64_t> tokens, absl::Span<int64_t> labels, absl::Span<int64_t> positions) {
  const int64_t length = tokens.size();
  for (int64_t filled = 0; filled < length;) {
    const absl::Status found = FindDocument();
    if (absl::IsOutOfRange(found) && options_.pads && filled > 0) {
      Pad(filled, tokens, labels, positions);
      return absl::OkStatus();
    }
    TITAN_RETURN_IF_ERROR(found);
    const int64_t count = std::min(length - filled, document_->size() - 1 - position_.offset);
    TITAN_RETURN_IF_ERROR(CheckIds(position_.offset, position_.offset + count + 1));
    for (int64_t i = 0; i < count; ++i) {
      tokens[filled + i] = (*document_)[position_.offset + i];
      labels[filled + i] = (*document_)[position_.offset + i + 1];
      positions[filled + i] = i;
    }
    filled += count;
    position_.offset += count;
  }
  return absl::OkStatus();
}

}  // namespace titan
