// Llama 3 1B on one node of H200. The tokens are random: bind `corpora` and `tokenizer` in BUILD.bazel and name
// the corpus here to train on text.
local clusters = import 'experiments/lib/clusters.libsonnet';
local llama3 = import 'experiments/lib/llama3.libsonnet';
local strict = import 'experiments/lib/strict.libsonnet';

strict(llama3.pretraining('1B'), {
  description: 'Llama 3 1B, FSDP over one node of H200',
  data: { sources: [{ corpus: 'synthetic' }] },
  cluster: clusters.h200(nodes=1),
})
