// What one layer keeps of its first forward under selective recomputation, so that the second one, before its backward,
// computes only what is cheap. Kept are attention, sums that have travelled, and matrix products: every one, or every
// second, which is torchtitan's policy; of the last product of a layer, whose values nobody reads again, only its place
// in the graph.
//
//   const KeepScope keep(Keeper::NextProduct(context.keeper));  // while it lives, operators are kept, or taken back
//   return Linear(x, weight, context.gradients);

#ifndef TITAN_MODEL_KEEPER_H_
#define TITAN_MODEL_KEEPER_H_

#include <cstdint>

#include "kernels/function.h"

namespace titan {

class Keeper {
 public:
  explicit Keeper(bool keeps_every_product) : keeps_every_product_(keeps_every_product) {}

  // Of operators that are always kept. Here and below null, which keeps nothing, for a null `keeper`.
  static KeptRecords* Always(Keeper* keeper) { return keeper == nullptr ? nullptr : &keeper->records_; }
  // Of the next matrix product: the first, the third, ... of a layer are kept, or all.
  static KeptRecords* NextProduct(Keeper* keeper) {
    const bool keeps = keeper != nullptr && (keeper->keeps_every_product_ || keeper->num_products_++ % 2 == 0);
    return keeps ? &keeper->records_ : nullptr;
  }
  // Whether products that belong together have one fate. So it is without a keeper.
  static bool TreatsAllAlike(const Keeper* keeper) { return keeper == nullptr || keeper->keeps_every_product_; }

  // In the first forward: only the layer's output comes of what follows, and that is not read again.
  static void ForgetOutputs(Keeper* keeper) {
    if (keeper != nullptr && !keeper->records_.is_second_run()) keeper->records_.ForgetOutputs();
  }

  // The second forward begins.
  void Rewind() {
    records_.Rewind();
    num_products_ = 0;
  }
  // The second forward has taken everything.
  bool empty() const { return records_.empty(); }

 private:
  const bool keeps_every_product_;
  KeptRecords records_;
  int64_t num_products_ = 0;
};

}  // namespace titan

#endif  // TITAN_MODEL_KEEPER_H_
