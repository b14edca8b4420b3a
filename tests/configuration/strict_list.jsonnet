local llama3 = import 'experiments/lib/llama3.libsonnet';
local strict = import 'experiments/lib/strict.libsonnet';

strict(llama3.pretraining('8B'), {
  data: { sources: [{ corpus: 'a' }, { corpus: 'b', fromat: 'jsonl' }] },
})
