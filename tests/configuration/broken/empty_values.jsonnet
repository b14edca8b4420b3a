// Empty where something must be.
(import 'tests/configuration/valid.libsonnet') + {
  data: { sources: [] },
  checkpoint: { folder: '' },
}
