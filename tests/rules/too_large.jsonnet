// 1.1e12 parameters on one GPU.
{
  model: { name: 'llama3', dim: 65536, n_layers: 20, n_heads: 512, ffn_hidden_dim: 262144, vocab_size: 128 },
  data: { sources: [{ corpus: 'synthetic' }] },
  training: { seq_len: 64 },
  cluster: { accelerator: 'h100' },
}
