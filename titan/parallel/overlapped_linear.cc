#include "titan/parallel/overlapped_linear.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "kernels/function.h"

namespace titan {
namespace {

// With whom each step of T - 1 exchanges: every pair of ranks meets once in either direction, and in each step all
// ranks send and all receive.
int64_t Receiver(const Communicator& group, int64_t step) { return (group.rank() + step) % group.size(); }
int64_t Sender(const Communicator& group, int64_t step) { return (group.rank() + group.size() - step) % group.size(); }

// The rows of `rank` among those of all: (N, ...) -> (N / T, ...).
at::Tensor RowsOf(const at::Tensor& all, int64_t rank, const Communicator& group) {
  TORCH_CHECK(all.size(0) % group.size() == 0, "tensor parallelism of ", group.size(), " cannot cut ", all.size(0),
              " tokens into equal parts");
  const int64_t rows = all.size(0) / group.size();
  return all.narrow(0, rank * rows, rows);
}

// x (N / T, D) of each rank -> (N, D). `use` gets the rows of one rank after the other, as soon as they are here, this
// rank's first. All messages are on their way from the beginning, each to where it is used.
at::Tensor GatherOverlapped(const at::Tensor& x, Communicator& group,
                            absl::FunctionRef<void(int64_t rank, const at::Tensor& rows)> use) {
  const at::Tensor mine = x.contiguous();
  const at::Tensor all = at::empty({mine.size(0) * group.size(), mine.size(1)}, mine.options());
  std::vector<Work> arrivals;
  for (int64_t step = 1; step < group.size(); ++step) {
    const int64_t sender = Sender(group, step);
    arrivals.push_back(group.Exchange({{.tensor = mine, .peer = Receiver(group, step)}},
                                      {{.tensor = RowsOf(all, sender, group), .peer = sender}}));
  }
  RowsOf(all, group.rank(), group).copy_(mine);
  use(group.rank(), mine);
  for (int64_t step = 1; step < group.size(); ++step) {
    arrivals[step - 1].Wait();
    use(Sender(group, step), RowsOf(all, Sender(group, step), group));
  }
  return all;
}

// make(r) is this rank's summand (N / T, D) for the rows of rank r; the result the sum for this rank's rows, in the
// order of the ranks. A summand travels while the next is made; this rank's own is the last, and then `meanwhile` runs.
at::Tensor ReduceScatterOverlapped(Communicator& group, absl::FunctionRef<at::Tensor(int64_t rank)> make,
                                   absl::FunctionRef<void()> meanwhile) {
  at::Tensor summands;  // (T, N / T, D), by rank
  std::vector<Work> arrivals;
  for (int64_t step = 1; step <= group.size(); ++step) {
    const at::Tensor summand = make(Receiver(group, step));
    if (!summands.defined()) {
      summands = at::empty({group.size(), summand.size(0), summand.size(1)}, summand.options());
    }
    if (step == group.size()) {
      summands.select(0, group.rank()).copy_(summand);
    } else {
      const int64_t sender = Sender(group, step);
      arrivals.push_back(group.Exchange({{.tensor = summand, .peer = Receiver(group, step)}},
                                        {{.tensor = summands.select(0, sender), .peer = sender}}));
    }
  }
  meanwhile();
  for (Work& arrival : arrivals) arrival.Wait();
  return summands.sum(0);
}

// rows weight^T, written where `rank` has its rows in `out`.
void MultiplyInto(const at::Tensor& out, int64_t rank, const at::Tensor& rows, const at::Tensor& matrix,
                  const Communicator& group) {
  at::Tensor part = RowsOf(out, rank, group);
  at::mm_out(part, rows, matrix);
}

// `saved`: the rows of all ranks, then the weights. Gradients of x and of the weights.
TensorVector ColumnBackward(const TensorVector& saved, const TensorVector& gradients, Communicator& group,
                            WeightGradients* weight_gradients) {
  TensorVector result(saved.size());
  const auto make = [&](int64_t rank) {
    at::Tensor sum;  // (N / T, D)
    for (size_t i = 0; i < gradients.size(); ++i) {
      const at::Tensor dy = RowsOf(gradients[i], rank, group);
      sum = i == 0 ? at::mm(dy, saved[1]) : sum.addmm_(dy, saved[i + 1]);
    }
    return sum;
  };
  result[0] = ReduceScatterOverlapped(group, make, [&] {
    for (size_t i = 0; i < gradients.size(); ++i) {
      result[i + 1] = WeightGradient(saved[0], saved[i + 1], gradients[i], weight_gradients);
    }
  });
  return result;
}

}  // namespace

std::vector<at::Tensor> OverlappedColumnLinears(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                                Communicator& group, WeightGradients* weight_gradients) {
  TensorVector inputs = {x};
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  const auto forward = [&](const TensorVector& in) -> Recorded {
    Recorded recorded;
    for (size_t i = 1; i < in.size(); ++i) {
      recorded.outputs.push_back(at::empty({in[0].size(0) * group.size(), in[i].size(0)}, in[0].options()));
    }
    recorded.saved = in;
    recorded.saved[0] = GatherOverlapped(in[0], group, [&](int64_t rank, const at::Tensor& rows) {
      for (size_t i = 1; i < in.size(); ++i) MultiplyInto(recorded.outputs[i - 1], rank, rows, in[i].t(), group);
    });
    return recorded;
  };
  const auto backward = [&group, weight_gradients](const TensorVector& saved, const TensorVector& gradients) {
    return ColumnBackward(saved, gradients, group, weight_gradients);
  };
  return ApplyFunction(inputs, forward, backward);
}

at::Tensor OverlappedRowLinear(const at::Tensor& x, const at::Tensor& weight, Communicator& group,
                               WeightGradients* weight_gradients) {
  const auto forward = [&](const TensorVector& in) -> Recorded {
    const auto make = [&](int64_t rank) { return at::mm(RowsOf(in[0], rank, group), in[1].t()); };
    return {.outputs = {ReduceScatterOverlapped(group, make, [] {})}, .saved = in};
  };
  const auto backward = [&group, weight_gradients](const TensorVector& saved,
                                                   const TensorVector& gradients) -> TensorVector {
    const at::Tensor dx = at::empty(saved[0].sizes(), saved[0].options());  // (N, in)
    const at::Tensor dy = GatherOverlapped(gradients[0], group, [&](int64_t rank, const at::Tensor& rows) {
      MultiplyInto(dx, rank, rows, saved[1], group);
    });
    return {dx, WeightGradient(saved[0], saved[1], dy, weight_gradients)};
  };
  return ApplyFunction({x, weight}, forward, backward)[0];
}

}  // namespace titan
