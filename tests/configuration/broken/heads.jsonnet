// Heads that do not divide.
(import 'tests/configuration/valid.libsonnet') + {
  model+: { n_heads: 15, n_kv_heads: 4 },
}
