// Degrees that the engine does not honour yet.
(import 'tests/configuration/valid.libsonnet') + {
  parallelism: { tensor_parallel_degree: 2, pipeline_parallel_schedule: 'DualPipeV', context_parallel_degree: 2 },
}
