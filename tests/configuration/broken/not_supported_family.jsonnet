// A family that is not built yet.
(import 'tests/configuration/valid.libsonnet') + {
  model+: { name: 'qwen3', qk_norm: true },
}
