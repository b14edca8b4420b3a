// Fractions where integers belong.
(import 'tests/configuration/valid.libsonnet') + {
  training+: { steps: 100.5, seq_len: 1.5e3 / 7 },
}
