// Features that the engine does not honour yet.
(import 'tests/configuration/valid.libsonnet') + {
  quantize: { linear: { mx: { recipe_name: 'mxfp8' } } },
  model+: { moe: { num_experts: 8, top_k: 2, hidden_dim: 256 } },
  profiling: { enable_memory_snapshot: true },
}
