// Llama 3 70B on 8 nodes of H200, laid out as torchtitan does: tensor parallelism inside a node, FSDP over the nodes. The
// tokens are random: bind `corpora` and `tokenizer` in BUILD.bazel and name the corpus here to train on text.
local clusters = import 'experiments/lib/clusters.libsonnet';
local llama3 = import 'experiments/lib/llama3.libsonnet';
local strict = import 'experiments/lib/strict.libsonnet';

strict(llama3.pretraining('70B'), {
  description: 'Llama 3 70B, TP 8 x FSDP 8 over 8 nodes of H200',
  data: { sources: [{ corpus: 'synthetic' }] },
  // For the 8 ranks that work on the same sequences.
  training: { local_batch_size: 8 },
  parallelism: { tensor_parallel_degree: 8 },
  cluster: clusters.h200(nodes=8),
})
