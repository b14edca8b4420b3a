// Frequency factors in the wrong order.
(import 'tests/configuration/valid.libsonnet') + {
  model+: { rope: { scaling_type: 'llama3', low_freq_factor: 4, high_freq_factor: 1 } },
}
