// An experiment for each thing that this library offers, by name. The strict reader must take them all.
local clusters = import 'experiments/lib/clusters.libsonnet';
local llama3 = import 'experiments/lib/llama3.libsonnet';
local optimizers = import 'experiments/lib/optimizers.libsonnet';
local strict = import 'experiments/lib/strict.libsonnet';

local data = { data: { sources: [{ corpus: 'synthetic' }] } };
{
  ['llama3 ' + flavor]: strict(llama3.pretraining(flavor), data)
  for flavor in llama3.flavors
} + {
  ['cluster ' + name]: strict(llama3.pretraining('8B'), data {
    cluster: if std.isFunction(clusters[name]) then clusters[name](nodes=2) else clusters[name],
  })
  for name in std.objectFields(clusters)
} + {
  muon: strict(llama3.pretraining('8B'), data { optimizer: optimizers.muon(lr=0.02, adamw_lr=3e-4) }),
}
