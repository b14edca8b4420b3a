// Which layers?
(import 'tests/configuration/valid.libsonnet') + {
  activation_checkpoint: { mode: 'selective', selective_ac_option: 'every second' },
}
