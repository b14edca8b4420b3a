// Rotary embedding needs pairs.
(import 'tests/configuration/valid.libsonnet') + {
  model+: { head_dim: 17, n_kv_heads: 5 },
}
