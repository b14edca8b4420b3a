// Lists of the wrong things.
(import 'tests/configuration/valid.libsonnet') + {
  data: { sources: ['docs', null, { corpus: 3 }] },
}
