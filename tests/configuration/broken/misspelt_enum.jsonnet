// Values that an enum does not have.
(import 'tests/configuration/valid.libsonnet') + {
  model+: { name: 'lama3', rope: { scaling_type: 'LLAMA3' } },
  optimizer+: { name: 'adamw' },
  lr_scheduler+: { decay_type: 'cosin' },
}
