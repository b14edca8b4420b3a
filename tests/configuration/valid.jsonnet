import 'tests/configuration/valid.libsonnet'
