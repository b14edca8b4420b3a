// A global batch that the passes do not fill.
(import 'tests/configuration/valid.libsonnet') + {
  training+: { global_batch_size: 100 },
  cluster: { accelerator: 'h200', devices_per_node: 8 },
}
