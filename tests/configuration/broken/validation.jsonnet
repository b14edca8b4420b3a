// Validation that cannot run.
(import 'tests/configuration/valid.libsonnet') + {
  validation: { enable: true, seq_len: 262144 },
}
