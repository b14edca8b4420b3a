// Overrides that contradict the file.
import 'tests/configuration/valid.libsonnet'
