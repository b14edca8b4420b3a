#include "titan/parallel/gloo_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/log/check.h"
#include "titan/parallel/gloo_group.h"
#include "titan/parallel/gloo_reduce.h"

namespace titan {
namespace {

// An all-reduce of so many bytes goes to everyone as it is: one step instead of two.
constexpr int64_t kSmallAllReduce = 8 << 10;
// Reductions of more bytes per rank go in pieces of so many, two at a time, so that the memory for what others send is
// bounded and stays in the cache.
constexpr int64_t kPiece = 256 << 10;
constexpr int64_t kPiecesAtOnce = 2;

int64_t Bytes(const at::Tensor& tensor) { return tensor.numel() * static_cast<int64_t>(tensor.element_size()); }

char* Data(const at::Tensor& tensor) {
  CHECK(tensor.is_cpu()) << "Gloo carries CPU tensors";
  return static_cast<char*>(tensor.data_ptr());
}

void Copy(void* to, const void* from, int64_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

// Messages that are posted already; the one who waits does what is left to do.
class DirectWork : public Work::Handle {
 public:
  DirectWork(std::shared_ptr<GlooGroup> group, const Operation& operation, std::vector<at::Tensor> tensors)
      : group_(std::move(group)), operation_(operation), tensors_(std::move(tensors)) {}

  // Others count on the messages of a Work that is dropped; but not of a process that is failing.
  ~DirectWork() override {
    if (done_ || std::uncaught_exceptions() > 0) return;
    try {
      Wait();
    } catch (const CommunicationError&) {  // the next operation throws it again
    }
  }

  void Wait() override {
    if (std::exchange(done_, true)) return;
    group_->WaitFor(operation_, messages_);
    if (finish) finish();
    tensors_.clear();
  }

  void Post(const GlooGroup::Channel& channel, const void* data, int64_t bytes) {
    group_->Post(operation_, channel, 0, data, bytes, messages_);
  }

  std::vector<char> scratch;
  std::function<void()> finish;

 private:
  const std::shared_ptr<GlooGroup> group_;
  const Operation operation_;
  std::vector<at::Tensor> tensors_;
  std::vector<Message> messages_;  // last: they go before the memory that they speak of
  bool done_ = false;
};

// What the group's thread does.
class QueuedWork : public Work::Handle {
 public:
  explicit QueuedWork(std::function<void()> task) : task_(std::move(task)) {}

  void Run() {
    std::string error;
    try {
      task_();
    } catch (const CommunicationError& caught) {
      error = caught.what();
    }
    task_ = nullptr;
    std::lock_guard<std::mutex> lock(mutex_);
    error_ = std::move(error);
    done_ = true;
    changed_.notify_all();
  }

  void Wait() override {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return done_; });
    if (!error_.empty()) throw CommunicationError(error_);
  }

 private:
  std::function<void()> task_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::string error_;
};

// A thread that starts with the first task, and ends after the last one.
class Worker {
 public:
  ~Worker() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }

  void Add(std::shared_ptr<QueuedWork> work) {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(work));
    if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
    changed_.notify_all();
  }

 private:
  void Run() {
    while (true) {
      std::shared_ptr<QueuedWork> work;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      work->Run();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<QueuedWork>> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

// A reduce-scatter in pieces: block r of `blocks`, reduced over all ranks, goes to rank r. The blocks may differ in
// size.
class PiecewiseReduceScatter {
 public:
  struct Block {
    char* data = nullptr;
    int64_t bytes = 0;
  };

  // Reserves the messages: called in the order of the group's operations.
  PiecewiseReduceScatter(GlooGroup& group, const Operation& operation, std::vector<at::Tensor> tensors, ReduceOp op,
                         std::vector<Block> blocks, char* output)
      : group_(group),
        operation_(operation),
        tensors_(std::move(tensors)),
        op_(op),
        blocks_(std::move(blocks)),
        output_(output) {
    for (int64_t member = 0; member < group_.size(); ++member) {
      sends_.push_back(group_.ReserveSends(member, Pieces(member)));
      receives_.push_back(group_.ReserveReceives(member, Pieces(group_.rank())));
      rounds_ = std::max(rounds_, Pieces(member));
    }
  }

  // Blocks.
  void Run() {
    scratch_.resize(kPiecesAtOnce * group_.size() * kPiece);
    for (int64_t round = 0; round < std::min(rounds_, kPiecesAtOnce); ++round) Post(round);
    for (int64_t round = 0; round < rounds_; ++round) {
      group_.WaitFor(operation_, messages_[round % kPiecesAtOnce]);
      Reduce(round);
      if (round + kPiecesAtOnce < rounds_) Post(round + kPiecesAtOnce);
    }
  }

 private:
  int64_t Pieces(int64_t member) const { return (blocks_[member].bytes + kPiece - 1) / kPiece; }
  int64_t PieceBytes(int64_t member, int64_t round) const {
    return std::clamp<int64_t>(blocks_[member].bytes - round * kPiece, 0, kPiece);
  }
  char* Scratch(int64_t member, int64_t round) {
    return scratch_.data() + (round % kPiecesAtOnce * group_.size() + member) * kPiece;
  }

  void Post(int64_t round) {
    std::vector<Message>& messages = messages_[round % kPiecesAtOnce];
    for (int64_t member = 0; member < group_.size(); ++member) {
      if (member == group_.rank()) continue;
      group_.Post(operation_, receives_[member], round, Scratch(member, round), PieceBytes(group_.rank(), round),
                  messages);
    }
    for (int64_t member = 0; member < group_.size(); ++member) {
      if (member == group_.rank()) continue;
      group_.Post(operation_, sends_[member], round, blocks_[member].data + round * kPiece, PieceBytes(member, round),
                  messages);
    }
  }

  void Reduce(int64_t round) {
    const int64_t bytes = PieceBytes(group_.rank(), round);
    if (bytes == 0) return;
    std::vector<const void*> pieces;
    for (int64_t member = 0; member < group_.size(); ++member) {
      pieces.push_back(member == group_.rank() ? blocks_[member].data + round * kPiece : Scratch(member, round));
    }
    ReduceBlocks(tensors_[0].scalar_type(), op_, pieces, output_ + round * kPiece,
                 bytes / static_cast<int64_t>(tensors_[0].element_size()));
  }

  GlooGroup& group_;
  const Operation operation_;
  const std::vector<at::Tensor> tensors_;  // which the blocks are parts of
  const ReduceOp op_;
  const std::vector<Block> blocks_;
  char* const output_;
  int64_t rounds_ = 0;
  std::vector<GlooGroup::Channel> sends_, receives_;  // by member
  std::vector<char> scratch_;                         // what the others have sent, by round and member
  std::vector<Message> messages_[kPiecesAtOnce];
};

class GlooCommunicator : public Communicator {
 public:
  GlooCommunicator(const GlooContext& context, const std::string& name, const std::vector<int64_t>& ranks,
                   int64_t rank_in_group, int64_t number)
      : Communicator(name, ranks, rank_in_group),
        group_(std::make_shared<GlooGroup>(context, name, ranks, rank_in_group, number)) {}

 private:
  std::shared_ptr<DirectWork> NewWork(CollectiveKind kind, std::vector<at::Tensor> tensors,
                                      std::optional<std::chrono::seconds> limit = std::nullopt) {
    return std::make_shared<DirectWork>(group_, group_->Begin(NameOf(kind), true, limit), std::move(tensors));
  }
  Work Queue(std::function<void()> task) {
    auto work = std::make_shared<QueuedWork>(std::move(task));
    worker_.Add(work);
    return Work(work);
  }
  // Every rank but this one, beginning with the next, so that not all send to the same one first.
  std::vector<int64_t> Others() const {
    std::vector<int64_t> others;
    for (int64_t step = 1; step < size(); ++step) others.push_back((rank() + step) % size());
    return others;
  }
  // Everyone's `bytes` to everyone; those of rank r go to output + r * bytes.
  void PostAllGather(DirectWork& work, char* output, const char* input, int64_t bytes) {
    for (const int64_t other : Others()) work.Post(group_->ReserveReceives(other, 1), output + other * bytes, bytes);
    for (const int64_t other : Others()) work.Post(group_->ReserveSends(other, 1), input, bytes);
  }
  // Block r of `input` to rank r; what the others send goes to work.scratch, reduced into `output` at the end.
  void PostReduceScatter(const std::shared_ptr<DirectWork>& work, const at::Tensor& output, const at::Tensor& input,
                         ReduceOp op);

  Work DoAllGather(const at::Tensor& output, const at::Tensor& input) override;
  Work DoReduceScatter(const at::Tensor& output, const at::Tensor& input, ReduceOp op) override;
  Work DoAllReduce(const at::Tensor& tensor, ReduceOp op) override;
  Work DoAllToAll(const at::Tensor& output, const std::vector<int64_t>& output_rows, const at::Tensor& input,
                  const std::vector<int64_t>& input_rows) override;
  Work DoBroadcast(const at::Tensor& tensor, int64_t root) override;
  Work DoExchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives) override;
  void DoBarrier(std::optional<std::chrono::seconds> limit) override;
  Work SmallAllReduce(const at::Tensor& tensor, ReduceOp op);

  const std::shared_ptr<GlooGroup> group_;
  Worker worker_;  // last: it ends first
};

Work GlooCommunicator::DoAllGather(const at::Tensor& output, const at::Tensor& input) {
  auto work = NewWork(CollectiveKind::kAllGather, {output, input});
  const int64_t bytes = Bytes(input);
  PostAllGather(*work, Data(output), Data(input), bytes);
  Copy(Data(output) + rank() * bytes, Data(input), bytes);
  return Work(work);
}

void GlooCommunicator::PostReduceScatter(const std::shared_ptr<DirectWork>& work, const at::Tensor& output,
                                         const at::Tensor& input, ReduceOp op) {
  const int64_t bytes = Bytes(output);
  work->scratch.resize(size() * bytes);
  char* const scratch = work->scratch.data();
  for (const int64_t other : Others()) work->Post(group_->ReserveReceives(other, 1), scratch + other * bytes, bytes);
  for (const int64_t other : Others()) work->Post(group_->ReserveSends(other, 1), Data(input) + other * bytes, bytes);
  work->finish = [scratch, bytes, output, input, op, rank = rank(), size = size()] {
    std::vector<const void*> blocks;
    for (int64_t r = 0; r < size; ++r) blocks.push_back((r == rank ? Data(input) : scratch) + r * bytes);
    ReduceBlocks(output.scalar_type(), op, blocks, Data(output), output.numel());
  };
}

Work GlooCommunicator::DoReduceScatter(const at::Tensor& output, const at::Tensor& input, ReduceOp op) {
  if (Bytes(output) <= kPiece) {
    auto work = NewWork(CollectiveKind::kReduceScatter, {output, input});
    PostReduceScatter(work, output, input, op);
    return Work(work);
  }
  const Operation operation = group_->Begin(NameOf(CollectiveKind::kReduceScatter), true);
  std::vector<PiecewiseReduceScatter::Block> blocks;
  for (int64_t r = 0; r < size(); ++r) blocks.push_back({Data(input) + r * Bytes(output), Bytes(output)});
  auto scatter = std::make_shared<PiecewiseReduceScatter>(*group_, operation, std::vector<at::Tensor>{input, output},
                                                          op, std::move(blocks), Data(output));
  return Queue([scatter] { scatter->Run(); });
}

Work GlooCommunicator::SmallAllReduce(const at::Tensor& tensor, ReduceOp op) {
  auto work = NewWork(CollectiveKind::kAllReduce, {tensor});
  const int64_t bytes = Bytes(tensor);
  work->scratch.resize(size() * bytes);
  char* const scratch = work->scratch.data();
  PostAllGather(*work, scratch, Data(tensor), bytes);
  Copy(scratch + rank() * bytes, Data(tensor), bytes);
  work->finish = [scratch, bytes, tensor, op, size = size()] {
    std::vector<const void*> blocks;
    for (int64_t r = 0; r < size; ++r) blocks.push_back(scratch + r * bytes);
    ReduceBlocks(tensor.scalar_type(), op, blocks, Data(tensor), tensor.numel());
  };
  return Work(work);
}

Work GlooCommunicator::DoAllReduce(const at::Tensor& tensor, ReduceOp op) {
  if (Bytes(tensor) <= kSmallAllReduce) return SmallAllReduce(tensor, op);
  const Operation operation = group_->Begin(NameOf(CollectiveKind::kAllReduce), true);
  const int64_t element = static_cast<int64_t>(tensor.element_size());
  std::vector<PiecewiseReduceScatter::Block> blocks;
  for (int64_t r = 0; r < size(); ++r) {
    const int64_t begin = tensor.numel() * r / size(), end = tensor.numel() * (r + 1) / size();
    blocks.push_back({Data(tensor) + begin * element, (end - begin) * element});
  }
  auto scatter = std::make_shared<PiecewiseReduceScatter>(*group_, operation, std::vector<at::Tensor>{tensor}, op,
                                                          blocks, blocks[rank()].data);
  std::vector<GlooGroup::Channel> channels;
  for (const int64_t other : Others()) {
    channels.push_back(group_->ReserveReceives(other, 1));
    channels.push_back(group_->ReserveSends(other, 1));
  }
  return Queue([this, operation, scatter, blocks, channels, tensor] {
    scatter->Run();
    std::vector<Message> messages;
    for (const GlooGroup::Channel& channel : channels) {
      const auto& block = blocks[channel.is_send ? rank() : channel.member];
      group_->Post(operation, channel, 0, block.data, block.bytes, messages);
    }
    group_->WaitFor(operation, messages);
  });
}

Work GlooCommunicator::DoAllToAll(const at::Tensor& output, const std::vector<int64_t>& output_rows,
                                  const at::Tensor& input, const std::vector<int64_t>& input_rows) {
  auto work = NewWork(CollectiveKind::kAllToAll, {output, input});
  int64_t row = static_cast<int64_t>(input.element_size());
  for (int64_t dim = 1; dim < input.dim(); ++dim) row *= input.size(dim);
  std::vector<char*> to(size()), from(size());
  for (int64_t r = 0, out = 0, in = 0; r < size(); ++r) {
    to[r] = Data(output) + out * row;
    from[r] = Data(input) + in * row;
    out += output_rows[r];
    in += input_rows[r];
  }
  for (const int64_t other : Others()) {
    work->Post(group_->ReserveReceives(other, 1), to[other], output_rows[other] * row);
  }
  for (const int64_t other : Others()) {
    work->Post(group_->ReserveSends(other, 1), from[other], input_rows[other] * row);
  }
  Copy(to[rank()], from[rank()], input_rows[rank()] * row);
  return Work(work);
}

Work GlooCommunicator::DoBroadcast(const at::Tensor& tensor, int64_t root) {
  auto work = NewWork(CollectiveKind::kBroadcast, {tensor});
  if (rank() != root) {
    work->Post(group_->ReserveReceives(root, 1), Data(tensor), Bytes(tensor));
    return Work(work);
  }
  for (const int64_t other : Others()) work->Post(group_->ReserveSends(other, 1), Data(tensor), Bytes(tensor));
  return Work(work);
}

Work GlooCommunicator::DoExchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives) {
  std::vector<at::Tensor> tensors;
  for (const auto* transfers : {&sends, &receives}) {
    for (const Transfer& transfer : *transfers) tensors.push_back(transfer.tensor);
  }
  auto work = std::make_shared<DirectWork>(group_, group_->Begin("exchange", false), std::move(tensors));
  for (const Transfer& receive : receives) {
    work->Post(group_->ReserveReceives(receive.peer, 1), Data(receive.tensor), Bytes(receive.tensor));
  }
  for (const Transfer& send : sends) {
    work->Post(group_->ReserveSends(send.peer, 1), Data(send.tensor), Bytes(send.tensor));
  }
  return Work(work);
}

void GlooCommunicator::DoBarrier(std::optional<std::chrono::seconds> limit) {
  auto work = NewWork(CollectiveKind::kBarrier, {}, limit);
  work->scratch.resize(size());
  PostAllGather(*work, work->scratch.data(), work->scratch.data() + rank(), 1);
  work->Wait();
}

}  // namespace

std::unique_ptr<Communicator> NewGlooCommunicator(const GlooContext& context, const std::string& name,
                                                  const std::vector<int64_t>& ranks, int64_t rank_in_group,
                                                  int64_t number) {
  return std::make_unique<GlooCommunicator>(context, name, ranks, rank_in_group, number);
}

}  // namespace titan
