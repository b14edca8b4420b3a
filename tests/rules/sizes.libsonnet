{ dim: 16, n_layers: 2, n_heads: 2, ffn_hidden_dim: 32, vocab_size: 128 }
