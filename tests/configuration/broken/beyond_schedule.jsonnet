// Steps after the learning rate has become zero.
(import 'tests/configuration/valid.libsonnet') + {
  lr_scheduler+: { total_steps: 50 },
}
