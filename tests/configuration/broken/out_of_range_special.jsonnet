// Values beside the special ones.
(import 'tests/configuration/valid.libsonnet') + {
  training+: { global_batch_size: -2 },
  parallelism: { data_parallel_shard_degree: 0 },
  checkpoint: { keep_latest_k: 1, load_step: -7 },
}
