// Degrees and methods that the engine does not honour yet.
(import 'tests/configuration/valid.libsonnet') + {
  parallelism: {
    expert_parallel_degree: 2,
    enable_async_tensor_parallel: true,
    context_parallel_rotate_method: 'alltoall',
  },
}
