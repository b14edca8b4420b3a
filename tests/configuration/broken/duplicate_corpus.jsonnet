// A corpus twice, one with a path for a name, random tokens beside text.
(import 'tests/configuration/valid.libsonnet') + {
  data: { sources: [{ corpus: 'docs' }, { corpus: 'docs' }, { corpus: '/data/c4' }, { corpus: 'synthetic' }] },
}
