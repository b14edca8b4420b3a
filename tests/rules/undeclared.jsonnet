// sizes.libsonnet is not among this target's deps.
{ model: import 'tests/rules/sizes.libsonnet' }
