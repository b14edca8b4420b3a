// Overrides of what is not there.
import 'tests/configuration/valid.libsonnet'
