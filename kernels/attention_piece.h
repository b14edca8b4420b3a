// Attention to keys that come piece by piece, because other ranks hold them: what a piece gives comes with its
// normalizers, by which the pieces merge into what all keys together would have given, forward and backward (Liu et al.
// 2023, arXiv:2310.01889; Dao et al. 2022, arXiv:2205.14135).
//
//   AttentionOutput all = AttendToPiece(q, k0, v0, piece0);
//   MergeAttention(AttendToPiece(q, k1, v1, piece1), piece1, all);
//   AttentionGradients g1 = PieceGradients(q, k1, v1, piece1, all, dout);  // summand of dq; dk1 and dv1

#ifndef TITAN_KERNELS_ATTENTION_PIECE_H_
#define TITAN_KERNELS_ATTENTION_PIECE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace titan {

// Which queries see which keys of a piece.
struct AttentionPiece {
  int64_t query_begin = 0, queries = 0;  // these queries see some of the piece, the others nothing
  int64_t keys = 0;                      // of the piece's keys the first so many, the others are seen by none
  // (B, queries) int64, in [0, keys]: query query_begin + i of row b sees the keys first_key[b][i] .. end_key[b][i] -
  // 1, none if there are none. Undefined: each of the queries sees all of the keys, or if `is_causal` the keys 0 .. i.
  at::Tensor first_key{}, end_key{};
  bool is_causal = false;
};

struct AttentionOutput {
  at::Tensor out;         // (B, S, H, d)
  at::Tensor normalizer;  // (B, H, S): base-2 logarithm of the sum of the exponentials of a row's scores
};

struct AttentionGradients {
  at::Tensor dq;      // (B, S, H, d)
  at::Tensor dk, dv;  // (B, S_k, H_kv, d)
};

// q (B, S, H, d); k, v (B, S_k, H_kv, d) -> for the piece's queries, out and normalizer in fp32 (fp64 for fp64). Where
// a query sees nothing, out is 0 and the normalizer -infinity.
//
// On the CPU a kernel of this folder does it. On a GPU, bf16 without ranges of keys is the library's flash attention;
// everything else is composed of ATen's operators in fp32, many times slower, with the scores of a part of the queries
// in memory.
AttentionOutput AttendToPiece(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const AttentionPiece& piece);

// Adds what AttendToPiece gave for `piece` to what other pieces gave for all queries, in place.
void MergeAttention(const AttentionOutput& of_piece, const AttentionPiece& piece, const AttentionOutput& all);

// The gradients of the piece's queries, as far as they come from the piece, and of its keys and values: (B, queries, H,
// d) and (B, keys, H_kv, d) in fp32 (fp64 for fp64). `all` is of all queries and pieces, its `out` and `dout` of any
// dtype.
AttentionGradients PieceGradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const AttentionPiece& piece, const AttentionOutput& all, const at::Tensor& dout);

// Attention to a single piece that every query sees some of: (B, S, H, d) of q's dtype. Differentiable.
at::Tensor PieceAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionPiece& piece);

// AttendToPiece and PieceGradients in ATen's operators, on any device.
AttentionOutput LibraryAttendToPiece(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const AttentionPiece& piece);
AttentionGradients LibraryPieceGradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                         const AttentionPiece& piece, const AttentionOutput& all,
                                         const at::Tensor& dout);

}  // namespace titan

#endif  // TITAN_KERNELS_ATTENTION_PIECE_H_
