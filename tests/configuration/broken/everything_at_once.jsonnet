// One error of each kind in one file.
(import 'tests/configuration/valid.libsonnet') + {
  model+: { dims: 256, n_heads: '16', vocab_size: 1 },
  training+: { steps: null, global_batch_size: 3 },
  optimizer+: { lr: 0, name: 'sgd' },
  lr_scheduler+: { warmup_steps: 5.5 },
  data: { sources: [{ corpus: '' }] },
  checkpoint: { keep_latest_k: 1, initial_load_path: 'here' },
}
