// The smallest Llama 3, on real text: what to run first. Its loss falls from 7.6 to under 5 in a few minutes on two cores.
local clusters = import 'experiments/lib/clusters.libsonnet';
local llama3 = import 'experiments/lib/llama3.libsonnet';
local strict = import 'experiments/lib/strict.libsonnet';

strict(llama3.pretraining('debugmodel'), {
  description: 'Llama 3 debug model on the documentation of Django',
  data: { sources: [{ corpus: 'django_docs', format: 'jsonl' }] },
  training: {
    local_batch_size: 4,
    seq_len: 256,
    steps: 320,
    mixed_precision_param: 'float32',
  },
  optimizer: { lr: 3e-3 },
  lr_scheduler: { warmup_steps: 20, decay_ratio: 0.8, min_lr_factor: 0.1, total_steps: 320 },
  metrics: { log_freq: 10 },
  cluster: clusters.cpu,
})
