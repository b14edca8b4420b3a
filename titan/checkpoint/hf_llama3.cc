// Llama 3, as LlamaForCausalLM of the Hugging Face library names it. Both sides rotate halves (RoPE), so that the
// weights are the same numbers in the same order.

#include "titan/checkpoint/hf_names.h"

namespace titan {
namespace {

constexpr HfNamePair kParameters[] = {
    {"tok_embeddings.weight", "model.embed_tokens.weight"},
    {"layers.{N}.attention_norm.weight", "model.layers.{N}.input_layernorm.weight"},
    {"layers.{N}.attention.wq.weight", "model.layers.{N}.self_attn.q_proj.weight"},
    {"layers.{N}.attention.wk.weight", "model.layers.{N}.self_attn.k_proj.weight"},
    {"layers.{N}.attention.wv.weight", "model.layers.{N}.self_attn.v_proj.weight"},
    {"layers.{N}.attention.wo.weight", "model.layers.{N}.self_attn.o_proj.weight"},
    {"layers.{N}.ffn_norm.weight", "model.layers.{N}.post_attention_layernorm.weight"},
    {"layers.{N}.feed_forward.w1.weight", "model.layers.{N}.mlp.gate_proj.weight"},
    {"layers.{N}.feed_forward.w2.weight", "model.layers.{N}.mlp.down_proj.weight"},
    {"layers.{N}.feed_forward.w3.weight", "model.layers.{N}.mlp.up_proj.weight"},
    {"norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Files written by early versions of the library hold a table that is computed today.
constexpr std::string_view kIgnored[] = {"model.layers.{N}.self_attn.rotary_emb.inv_freq"};

}  // namespace

HfNames Llama3HfNames() { return HfNames(kParameters, kIgnored); }

}  // namespace titan
