// Documents that are held out in two ways, and a window without shuffling.
(import 'tests/configuration/valid.libsonnet') + {
  data: {
    sources: [{ corpus: 'docs', validation_split: 0.01, validation_documents: 100 }],
    shuffle: false,
    shuffle_window: 10000,
  },
}
