// A field of JSON lines for plain text.
(import 'tests/configuration/valid.libsonnet') + {
  data: { sources: [{ corpus: 'docs', text_field: 'body' }] },
}
