// A valid experiment that the broken ones start from.
{
  model: {
    name: 'llama3',
    dim: 256,
    n_layers: 6,
    n_heads: 16,
    n_kv_heads: 8,
    ffn_hidden_dim: 768,
    vocab_size: 2048,
  },
  data: { sources: [{ corpus: 'docs' }] },
  training: { local_batch_size: 8, seq_len: 256, steps: 100 },
  optimizer: { lr: 8e-4 },
  lr_scheduler: { warmup_steps: 10 },
  cluster: { accelerator: 'cpu' },
}
