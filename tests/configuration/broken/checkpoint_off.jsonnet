// Settings of checkpoints that are switched off.
(import 'tests/configuration/valid.libsonnet') + {
  checkpoint: { initial_load_path: '/weights', load_only: true, enable_first_step_checkpoint: true, load_step: 3 },
}
