// Fields that exist, elsewhere.
(import 'tests/configuration/valid.libsonnet') + {
  training+: { lr: 3e-4, warmup_steps: 10 },
  model+: { theta: 10000 },
}
