// Llama 3 405B on 64 nodes of H200, laid out as torchtitan does: tensor parallelism inside a node, overlapped with what it
// sends, and FSDP over the nodes. The tokens are random: bind `corpora` and `tokenizer` in BUILD.bazel and name the corpus
// here to train on text.
local clusters = import 'experiments/lib/clusters.libsonnet';
local llama3 = import 'experiments/lib/llama3.libsonnet';
local strict = import 'experiments/lib/strict.libsonnet';

strict(llama3.pretraining('405B'), {
  description: 'Llama 3 405B, TP 8 x FSDP 64 over 64 nodes of H200',
  data: { sources: [{ corpus: 'synthetic' }] },
  // For the 8 ranks that work on the same sequences.
  training: { local_batch_size: 2 },
  parallelism: { tensor_parallel_degree: 8, enable_async_tensor_parallel: true },
  cluster: clusters.h200(nodes=64),
})
