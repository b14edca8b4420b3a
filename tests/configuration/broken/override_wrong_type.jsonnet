// Overrides of the wrong type or range.
import 'tests/configuration/valid.libsonnet'
