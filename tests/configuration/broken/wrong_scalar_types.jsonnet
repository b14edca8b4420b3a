// Every type in a place of another.
(import 'tests/configuration/valid.libsonnet') + {
  model+: { dim: true, flavor: 8, enable_weight_tying: 1 },
  optimizer+: { lr: [1e-3], eps: { value: 1e-8 } },
  lr_scheduler+: { decay_type: 1 },
}
