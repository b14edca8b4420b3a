// What one layer keeps of its first forward under selective recomputation, so that the second one, before its backward,
// computes only what is cheap. The policy is torchtitan's: attention, sums that have travelled, and every second matrix
// product.
//
//   const KeepScope keep(Keeper::NextProduct(context.keeper));  // while it lives, operators are kept, or taken back
//   return Linear(x, weight, context.deferred);

#ifndef TITAN_MODEL_KEEPER_H_
#define TITAN_MODEL_KEEPER_H_

#include <cstdint>

#include "kernels/function.h"

namespace titan {

class Keeper {
 public:
  // Of operators that are always kept. Here and below null, which keeps nothing, for a null `keeper`.
  static KeptRecords* Always(Keeper* keeper) { return keeper == nullptr ? nullptr : &keeper->records_; }
  // Of the next matrix product: the first, the third, ... of a layer are kept.
  static KeptRecords* NextProduct(Keeper* keeper) {
    return keeper == nullptr || keeper->num_products_++ % 2 != 0 ? nullptr : &keeper->records_;
  }

  // The second forward begins.
  void Rewind() {
    records_.Rewind();
    num_products_ = 0;
  }
  // The second forward has taken everything.
  bool empty() const { return records_.empty(); }

 private:
  KeptRecords records_;
  int64_t num_products_ = 0;
};

}  // namespace titan

#endif  // TITAN_MODEL_KEEPER_H_
