// Shuffling with a bounded window, for corpora that are read from front to back: of a fixed number of documents at a
// time the next one is drawn.
//
//   WindowOrder order({.size = 1000, .shard_starts = {0, 400}, .window = 100, .seed = 42, .epoch = 0});
//   order.Seek(17);                         // as if 17 documents had been drawn
//   while (std::optional<int64_t> document = order.Next()) Use(*document);
//
// The shards (files) come in a new order in every epoch. The r-th document that is so read has the key r + u(r), with
// u(r) below the window and a hash of (seed, epoch, r); documents come in the order of their keys. So a document moves
// by less than the window, every document comes once in an epoch, and the order at any place is known from that place
// alone: what was read and not drawn is among the documents of the last window, and nothing of it needs to be saved.

#ifndef TITAN_DATA_SHUFFLE_WINDOW_H_
#define TITAN_DATA_SHUFFLE_WINDOW_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/data/document_source.h"
#include "titan/data/permutation.h"

namespace titan {

struct WindowOrderOptions {
  int64_t size = 0;                   // documents, at least one
  std::vector<int64_t> shard_starts;  // the first document of each shard, ascending from 0
  int64_t window = 1;                 // documents, at least one
  uint64_t seed = 0;
  int64_t epoch = 0;
};

// The order of one epoch. A pass over it takes a logarithm of the window for each document.
class WindowOrder {
 public:
  explicit WindowOrder(const WindowOrderOptions& options);

  // The next document; nullopt at the end of the epoch.
  std::optional<int64_t> Next();
  // 0 <= place <= size: of the epoch, so many documents have been drawn. Takes a window's time.
  void Seek(int64_t place);

  // The documents that have been read and not drawn, in the order in which they are read: fewer than the window.
  std::vector<int64_t> Pending() const;
  // Documents that Next has read since the last call, in that order.
  std::vector<int64_t> TakeRead() { return std::exchange(read_, {}); }

 private:
  struct Entry {
    int64_t key;
    int64_t rank;  // in the order of reading
    bool operator>(const Entry& other) const { return std::pair(key, rank) > std::pair(other.key, other.rank); }
  };

  // The document that is the rank-th to be read.
  int64_t DocumentAt(int64_t rank) const;
  void ReadOne();
  Entry DrawOne();

  const WindowOrderOptions options_;
  const uint64_t key_seed_;
  std::vector<int64_t> order_of_shards_;  // of reading
  std::vector<int64_t> first_rank_;       // of the shards in that order
  int64_t next_rank_ = 0;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> pending_;
  std::vector<int64_t> read_;
};

struct WindowOptions {
  int64_t window = 1;  // documents
  uint64_t seed = 0;
  bool repeat = true;
};

// The documents of `source` in the order of WindowOrder, epoch after epoch, as a source whose order is final: as good
// as endless if it repeats. Read from front to back it reads `source` so, too, each document once, and keeps a window
// of documents in memory; any other place costs the reading of a window. InvalidArgument if no document has two tokens
// or more.
absl::StatusOr<std::unique_ptr<DocumentSource>> Windowed(std::unique_ptr<DocumentSource> source,
                                                         const WindowOptions& options);

}  // namespace titan

#endif  // TITAN_DATA_SHUFFLE_WINDOW_H_
