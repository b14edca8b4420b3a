// Values beyond their bounds.
(import 'tests/configuration/valid.libsonnet') + {
  training+: { local_batch_size: 0, steps: -5, max_norm: 0 },
  optimizer+: { lr: -1, beta1: 1.5, weight_decay: 11 },
  lr_scheduler+: { decay_ratio: 1.5, min_lr_factor: -0.1 },
}
