// Integers that are no longer exact in Jsonnet.
(import 'tests/configuration/valid.libsonnet') + {
  debug: { seed: 9007199254740993 },
  data+: { seed: 18446744073709551615 },
}
