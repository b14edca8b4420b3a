// The debug experiment on ids that a build action makes of its corpus once, instead of at every step: the same losses.
local strict = import 'experiments/lib/strict.libsonnet';
local debug = import 'experiments/llama3/debug.jsonnet';

strict(debug, {
  description: 'Llama 3 debug model on the documentation of Django, tokenized beforehand',
  data: { sources: [{ corpus: 'django_docs_tokens', format: 'tokens' }] },
})
