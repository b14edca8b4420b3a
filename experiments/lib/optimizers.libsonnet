// Values of the `optimizer` group.
//
//   { optimizer: optimizers.muon(lr=0.02, adamw_lr=3e-4) }
{
  // Muon for the matrices of layers, AdamW for embedding, output projection and norms. With adjust_lr_fn
  // 'match_rms_adamw' one learning rate, that of AdamW, does for all.
  muon: function(lr, adamw_lr=lr, adjust_lr_fn='original', weight_decay=0.1) {
    name: 'Muon',
    lr: lr,
    weight_decay: weight_decay,
    adjust_lr_fn: adjust_lr_fn,
    param_groups: [
      { pattern: '^(tok_embeddings|output)[.]', name: 'AdamW', lr: adamw_lr },
      { pattern: 'norm', name: 'AdamW', lr: adamw_lr },
    ],
  },
}
