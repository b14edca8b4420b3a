#include <utility>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "titan/parallel/communicator.h"

namespace titan {
namespace {

// A world of one process: nothing is connected, and every group has one rank.
class SingleTransport : public Transport {
 public:
  int64_t rank() const override { return 0; }
  int64_t world_size() const override { return 1; }

  absl::StatusOr<std::unique_ptr<Communicator>> NewGroup(const std::string& name,
                                                         const std::vector<int64_t>& ranks) override {
    CHECK(ranks == std::vector<int64_t>{0}) << "group " << name << ": a world of one process has rank 0 only";
    return std::make_unique<SingleCommunicator>(name);
  }

  void Abort(const std::string&) override {}

 private:
  // The front answers for a group of one; no operation gets here.
  class SingleCommunicator : public Communicator {
   public:
    explicit SingleCommunicator(const std::string& name) : Communicator(name, {0}, 0) {}

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
    void DoBarrier() override { Unreachable(); }
  };
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> ConnectTransport(const TransportOptions& options) {
  if (options.world_size == 1) return std::make_unique<SingleTransport>();
  return absl::UnimplementedError("several processes");
}

}  // namespace titan
