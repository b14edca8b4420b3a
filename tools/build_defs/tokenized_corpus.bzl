"""A corpus tokenized ahead of training, as a cached build action.

    load("//tools/build_defs:tokenized_corpus.bzl", "titan_tokenized_corpus")

    titan_tokenized_corpus(
        name = "c4_tokens",
        corpus = ":c4",
        tokenizer = "tokenizer.json",
    )

An experiment reads it as `corpora = {"c4": ":c4_tokens"}` with the format "tokens" and the same tokenizer, and trains, to
the last bit, as on the text.
"""

load("//tools/build_defs:bundle.bzl", "corpus_files")

def _titan_tokenized_corpus_impl(ctx):
    args = ctx.actions.args()
    args.add("--tokenizer", ctx.file.tokenizer)
    args.add("--format", ctx.attr.format)
    args.add("--text_field", ctx.attr.text_field)
    args.add("--out", ctx.outputs.tokens)
    args.add("--manifest", ctx.outputs.manifest)

    # In the order in which a bundle lists them, and so in that in which training on them would read them.
    files = ctx.actions.args()
    for name, file in sorted(corpus_files(ctx.files.corpus).items()):
        files.add(file, format = name + "=%s")
    files.use_param_file("@%s", use_always = True)
    files.set_param_file_format("multiline")
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [args, files],
        inputs = ctx.files.corpus + [ctx.file.tokenizer],
        outputs = [ctx.outputs.tokens, ctx.outputs.manifest],
        env = {},
        mnemonic = "TokenizeCorpus",
        progress_message = "Tokenizing %s" % ctx.attr.corpus.label,
    )
    return [DefaultInfo(files = depset([ctx.outputs.tokens]))]

titan_tokenized_corpus = rule(
    implementation = _titan_tokenized_corpus_impl,
    doc = """Runs the trainer's tokenizer over a corpus: NAME.safetensors, a token file that is mapped into memory.

    NAME.manifest.json lists size and sha256 of each file that went in, of the tokenizer, and of what came out. Only the
    token file is in the default outputs, so that the target can be a corpus of a titan_experiment.""",
    attrs = {
        "corpus": attr.label(allow_files = True, mandatory = True, doc = "What a titan_experiment would be given."),
        "format": attr.string(default = "jsonl", doc = "As data.sources[].format."),
        "text_field": attr.string(default = "text", doc = "As data.sources[].text_field."),
        "tokenizer": attr.label(allow_single_file = [".json"], mandatory = True, doc = "The experiment's."),
        "_tool": attr.label(default = "//tools:tokenize_corpus", executable = True, cfg = "target"),
    },
    outputs = {
        "manifest": "%{name}.manifest.json",
        "tokens": "%{name}.safetensors",
    },
)
