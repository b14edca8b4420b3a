// Llama 3 as in torchtitan 0.2.2: its flavors, and the settings that it trains them with.
//
//   strict(llama3.pretraining('8B'), { cluster: clusters.h200() })

local flavors = {
  debugmodel: {
    dim: 256,
    n_layers: 6,
    n_heads: 16,
    n_kv_heads: 16,
    ffn_hidden_dim: 768,
    vocab_size: 2048,
  },
  '1B': {
    dim: 2048,
    n_layers: 16,
    n_heads: 32,
    n_kv_heads: 8,
    ffn_hidden_dim: 8192,
    vocab_size: 128256,
    enable_weight_tying: true,
  },
  '3B': {
    dim: 3072,
    n_layers: 28,
    n_heads: 24,
    n_kv_heads: 8,
    ffn_hidden_dim: 8192,
    vocab_size: 128256,
    enable_weight_tying: true,
  },
  '8B': {
    dim: 4096,
    n_layers: 32,
    n_heads: 32,
    n_kv_heads: 8,
    ffn_hidden_dim: 14336,
    vocab_size: 128256,
  },
  '70B': {
    dim: 8192,
    n_layers: 80,
    n_heads: 64,
    n_kv_heads: 8,
    ffn_hidden_dim: 28672,
    vocab_size: 128256,
  },
  '405B': {
    dim: 16384,
    n_layers: 126,
    n_heads: 128,
    n_kv_heads: 8,
    ffn_hidden_dim: 53248,
    vocab_size: 128256,
  },
};

// What differs between flavors. torchtitan trains 8B, 70B and 405B; the smaller ones take the 8B's settings here.
local recipes = {
  debugmodel: { lr: 8e-4, steps: 10, warmup_steps: 2 },
  '1B': { lr: 3e-4, steps: 1000, warmup_steps: 200 },
  '3B': { lr: 3e-4, steps: 1000, warmup_steps: 200 },
  '8B': { lr: 3e-4, steps: 1000, warmup_steps: 200 },
  '70B': { lr: 1.5e-4, steps: 1000, warmup_steps: 200 },
  '405B': { lr: 8e-5, steps: 3000, warmup_steps: 600 },
};

local of(table, flavor) =
  if std.objectHas(table, flavor) then
    table[flavor]
  else
    error 'llama3 has no flavor %s; known flavors: %s' % [flavor, std.join(', ', std.objectFields(table))];

{
  flavors: std.objectFields(flavors),

  // The `model` group.
  model(flavor):: {
    name: 'llama3',
    flavor: flavor,
    // Scaling factor 8 for all flavors, as in torchtitan. Hugging Face's 1B and 3B (Llama 3.2) have 32.
    rope: {
      theta: 500000,
      scaling_type: 'llama3',
      scaling_factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_seq_len: 8192,
    },
  } + of(flavors, flavor),

  // Everything but the data and the cluster.
  pretraining(flavor):: {
    local recipe = of(recipes, flavor),
    local is_debug = flavor == 'debugmodel',
    model: $.model(flavor),
    training: {
      local_batch_size: if is_debug then 8 else 1,
      seq_len: if is_debug then 2048 else 8192,
      max_norm: 1,
      steps: recipe.steps,
    },
    optimizer: { name: 'AdamW', lr: recipe.lr, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 },
    // total_steps stays where it is when training.steps is overridden: a shorter run is the beginning of this one.
    lr_scheduler: { warmup_steps: recipe.warmup_steps, decay_type: 'linear', total_steps: recipe.steps },
    activation_checkpoint: { mode: if is_debug then 'none' else 'full' },
  },
}
