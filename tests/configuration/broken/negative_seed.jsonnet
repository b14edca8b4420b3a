// A seed below zero.
(import 'tests/configuration/valid.libsonnet') + {
  debug: { seed: -1 },
}
