// A faulty element of a list.
(import 'tests/configuration/valid.libsonnet') + {
  data: { sources: [{ corpus: 'docs' }, { corpus: 'more_docs', fromat: 'jsonl' }] },
}
