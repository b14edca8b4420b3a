// Degrees that do not fill the cluster.
(import 'tests/configuration/valid.libsonnet') + {
  parallelism: { data_parallel_shard_degree: 6 },
  cluster: { accelerator: 'h200', num_nodes: 2, devices_per_node: 8 },
}
