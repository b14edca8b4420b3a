// Paths that must be relative, absolute, or there.
(import 'tests/configuration/valid.libsonnet') + {
  checkpoint: { enable: true, folder: '/checkpoints', initial_load_path: 'weights', initial_load_in_hf: true },
  metrics: { save_tb_folder: '../tb' },
}
