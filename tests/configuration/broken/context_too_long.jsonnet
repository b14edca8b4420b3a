// A sequence that is longer than the model allows.
(import 'tests/configuration/valid.libsonnet') + {
  model+: { max_seq_len: 1024 },
  training+: { seq_len: 2048 },
}
