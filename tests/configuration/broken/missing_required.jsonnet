// Required fields that are not there.
(import 'tests/configuration/valid.libsonnet') + {
  model: { name: 'llama3', dim: 256, n_layers: 6 },
  data: { shuffle: true },
}
