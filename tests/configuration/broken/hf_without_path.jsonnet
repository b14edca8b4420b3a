// Hugging Face weights from nowhere.
(import 'tests/configuration/valid.libsonnet') + {
  checkpoint: { enable: true, initial_load_in_hf: true },
}
