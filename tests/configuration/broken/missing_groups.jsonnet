// A whole group that is not there.
{
  model: (import 'tests/configuration/valid.libsonnet').model,
}
