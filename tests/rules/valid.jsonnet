local sizes = import 'tests/rules/sizes.libsonnet';

{
  model: sizes { name: 'llama3' },
  data: { sources: [{ corpus: 'words' }] },
  training: { seq_len: 64, local_batch_size: 2, mixed_precision_param: 'float32' },
}
