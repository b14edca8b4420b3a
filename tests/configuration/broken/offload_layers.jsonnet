// The last layer gains nothing.
(import 'tests/configuration/valid.libsonnet') + {
  activation_checkpoint: { mode: 'selective', offload_layers: 6 },
}
