// A warmup that does not fit the schedule.
(import 'tests/configuration/valid.libsonnet') + {
  lr_scheduler+: { warmup_steps: 200 },
}
