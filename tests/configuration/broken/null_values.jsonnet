// null is not a value.
(import 'tests/configuration/valid.libsonnet') + {
  training+: { steps: null },
  lr_scheduler: null,
}
