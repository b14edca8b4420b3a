// A field and a group that are nearly right.
(import 'tests/configuration/valid.libsonnet') + {
  optimizer+: { weigth_decay: 0.2 },
  activation_checkpointing: { mode: 'full' },
}
