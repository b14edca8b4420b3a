// Numbers and booleans as strings.
(import 'tests/configuration/valid.libsonnet') + {
  training+: { steps: '100', local_batch_size: '8' },
  checkpoint: { enable: 'true' },
}
