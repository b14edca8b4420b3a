// Overrides are read as strictly as the file.
import 'tests/configuration/valid.libsonnet'
