// Degrees and methods that the engine does not honour yet.
(import 'tests/configuration/valid.libsonnet') + {
  parallelism: {
    expert_parallel_degree: 2,
    enable_fsdp_symm_mem: true,
  },
}
