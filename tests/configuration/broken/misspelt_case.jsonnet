// Another project's spelling of names.
(import 'tests/configuration/valid.libsonnet') + {
  training+: { localBatchSize: 4, maxNorm: 1 },
  optimizer+: { weightDecay: 0.1 },
}
