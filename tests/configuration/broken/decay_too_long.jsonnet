// Warmup and decay that do not fit together.
(import 'tests/configuration/valid.libsonnet') + {
  lr_scheduler+: { warmup_steps: 50, decay_ratio: 0.8 },
}
