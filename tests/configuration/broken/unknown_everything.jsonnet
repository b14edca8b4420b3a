// Nothing like it anywhere: the known fields are listed.
(import 'tests/configuration/valid.libsonnet') + {
  compile: { enable: true },
  comm: { backend: 'nccl' },
}
