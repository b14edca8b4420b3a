local sizes = import 'tests/rules/sizes.libsonnet';

{
  model: sizes { name: 'llama3' },
  data: { sources: [{ corpus: 'words' }] },
  parallelism: { pipeline_parallel_degree: 2, pipeline_parallel_schedule_csv: 'schedule.csv' },
  cluster: { devices_per_node: 2 },
  training: { seq_len: 64, local_batch_size: 2, mixed_precision_param: 'float32' },
}
