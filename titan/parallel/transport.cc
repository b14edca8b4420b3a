#include <algorithm>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/status_macros.h"
#include "titan/parallel/communicator.h"
#include "titan/parallel/gloo_communicator.h"
#include "titan/parallel/gloo_links.h"
#include "titan/parallel/nccl_communicator.h"
#include "titan/parallel/store_client.h"
#include "titan/parallel/transport_progress.h"

namespace titan {
namespace {

// A group of one rank: the front answers for it, no operation gets here.
class SingleCommunicator : public Communicator {
 public:
  SingleCommunicator(const std::string& name, const std::vector<int64_t>& ranks) : Communicator(name, ranks, 0) {}

 private:
  [[noreturn]] static void Unreachable() { LOG(FATAL) << "a group of one rank has nobody to talk to"; }
  Work DoAllGather(const at::Tensor&, const at::Tensor&) override { Unreachable(); }
  Work DoReduceScatter(const at::Tensor&, const at::Tensor&, ReduceOp) override { Unreachable(); }
  Work DoAllReduce(const at::Tensor&, ReduceOp) override { Unreachable(); }
  Work DoAllToAll(const at::Tensor&, const std::vector<int64_t>&, const at::Tensor&,
                  const std::vector<int64_t>&) override {
    Unreachable();
  }
  Work DoBroadcast(const at::Tensor&, int64_t) override { Unreachable(); }
  Work DoExchange(const std::vector<Transfer>&, const std::vector<Transfer>&) override { Unreachable(); }
  void DoBarrier(std::optional<std::chrono::seconds>) override { Unreachable(); }
};

// A world of one process: nothing is connected.
class SingleTransport : public Transport {
 public:
  int64_t rank() const override { return 0; }
  int64_t world_size() const override { return 1; }

  absl::StatusOr<std::unique_ptr<Communicator>> NewGroup(const std::string& name,
                                                         const std::vector<int64_t>& ranks) override {
    CHECK(ranks == std::vector<int64_t>{0}) << "group " << name << ": a world of one process has rank 0 only";
    return std::make_unique<SingleCommunicator>(name, ranks);
  }

  absl::Status status() const override { return absl::OkStatus(); }
  void Abort(const std::string&) override {}
};

// Several processes: they share a store, and a back end carries the tensors.
class SharedTransport : public Transport {
 public:
  SharedTransport(const TransportOptions& options, std::shared_ptr<StoreClient> store,
                  std::shared_ptr<ProgressTable> progress, std::shared_ptr<GlooLinks> links)
      : options_(options), progress_(std::move(progress)), links_(std::move(links)), store_(std::move(store)) {}

  int64_t rank() const override { return options_.rank; }
  int64_t world_size() const override { return options_.world_size; }

  absl::StatusOr<std::unique_ptr<Communicator>> NewGroup(const std::string& name,
                                                         const std::vector<int64_t>& ranks) override {
    const auto self = std::find(ranks.begin(), ranks.end(), options_.rank);
    CHECK(self != ranks.end()) << "rank " << options_.rank << " is not in group " << name << " (ranks "
                               << absl::StrJoin(ranks, ", ") << ")";
    for (const int64_t rank : ranks) {
      CHECK(rank >= 0 && rank < options_.world_size)
          << "group " << name << ": there is no rank " << rank << " in a world of " << options_.world_size;
      CHECK_EQ(std::count(ranks.begin(), ranks.end(), rank), 1) << "group " << name << " has rank " << rank << " twice";
    }
    if (ranks.size() == 1) return std::make_unique<SingleCommunicator>(name, ranks);
    TITAN_ASSIGN_OR_RETURN(const int64_t number, store_->GroupNumber(name, absl::StrJoin(ranks, ", ")));
    if (options_.device.is_cpu()) {
      const GlooContext context{progress_, links_, store_, options_.timeout};
      return NewGlooCommunicator(context, name, ranks, self - ranks.begin(), number);
    }
    const NcclContext context{progress_, store_, options_.device, options_.init_timeout, options_.timeout};
    return NewNcclCommunicator(context, name, ranks, self - ranks.begin(), number);
  }

  absl::Status status() const override {
    return store_->failed() ? absl::UnavailableError(store_->failure()) : absl::OkStatus();
  }
  void Abort(const std::string& reason) override { store_->Fail(reason); }

 private:
  const TransportOptions options_;
  const std::shared_ptr<ProgressTable> progress_;
  const std::shared_ptr<GlooLinks> links_;    // of CPU tensors
  const std::shared_ptr<StoreClient> store_;  // goes first, see GlooContext
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> ConnectTransport(const TransportOptions& options) {
  // A peer that dies while this process writes to it is an error of that write, and must not end this process.
  if (options.world_size > 1) std::signal(SIGPIPE, SIG_IGN);
  if (options.rank < 0 || options.rank >= options.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no rank ", options.rank, " in a world of ", options.world_size, " processes"));
  }
  if (options.world_size == 1) return std::make_unique<SingleTransport>();
  if (options.port <= 0 && options.listen_socket < 0) {
    return absl::InvalidArgumentError("several processes find each other at a port that all of them are told");
  }
  if (!options.device.is_cpu()) TITAN_RETURN_IF_ERROR(HasNccl());
  StoreOptions store_options;
  store_options.rank = options.rank;
  store_options.world_size = options.world_size;
  store_options.host = options.host;
  store_options.port = options.port;
  store_options.listen_socket = options.rank == 0 ? options.listen_socket : -1;
  store_options.init_timeout = options.init_timeout;
  TITAN_ASSIGN_OR_RETURN(std::shared_ptr<StoreClient> store, StoreClient::Connect(store_options));
  auto progress = std::make_shared<ProgressTable>();
  store->OnReport([progress](const std::string& group) { return progress->Report(group); });
  std::shared_ptr<GlooLinks> links;
  if (options.device.is_cpu()) {
    TITAN_ASSIGN_OR_RETURN(links, GlooLinks::Connect(*store, options.rank, options.world_size, options.init_timeout));
  }
  return std::make_unique<SharedTransport>(options, std::move(store), std::move(progress), std::move(links));
}

}  // namespace titan
