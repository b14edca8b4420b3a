// Scalars and lists where groups belong.
(import 'tests/configuration/valid.libsonnet') + {
  training: 100,
  optimizer: [],
  checkpoint: 'on',
}
