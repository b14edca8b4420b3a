// Three errors, all of which the build must report.
{
  model: { name: 'llama3', dim: '16', n_layers: 2, n_heads: 2, ffn_hidden_dim: 32, vocab_size: 128 },
  data: { sources: [{ corpus: 'synthetic' }] },
  training: { sequence_len: 64 },
  optimizer: { lr: -1 },
}
