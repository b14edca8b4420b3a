// One source, not a list of one.
(import 'tests/configuration/valid.libsonnet') + {
  data: { sources: { corpus: 'docs' } },
}
