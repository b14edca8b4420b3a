// Selection by operation is not there yet.
(import 'tests/configuration/valid.libsonnet') + {
  activation_checkpoint: { mode: 'selective', selective_ac_option: 'op' },
}
