"""Text of a corpus as others publish it (C4, FineWeb, ...), as cached build actions, one for each file.

    load("//tools/build_defs:text_corpus.bzl", "titan_text_corpus")

    titan_text_corpus(
        name = "fineweb",
        corpus = "@fineweb//:files",
    )

Files are .parquet, .arrow, .jsonl, .json or .txt, the last three plain or compressed (.gz, .zst). An experiment reads the
target as `corpora = {"fineweb": ":fineweb"}` with the format "jsonl"; titan_tokenized_corpus makes ids of it.
"""

load("//tools/build_defs:bundle.bzl", "corpus_files")

def _titan_text_corpus_impl(ctx):
    outputs = []
    for name, file in sorted(corpus_files(ctx.files.corpus).items()):
        # The whole name stays, so that the order stays, in which a bundle lists them.
        out = ctx.actions.declare_file("%s/%s.jsonl" % (ctx.label.name, name))
        outputs.append(out)
        args = ctx.actions.args()
        args.add("--format", ctx.attr.format)
        args.add("--text_field", ctx.attr.text_field)
        args.add("--out", out)
        args.add(file)
        ctx.actions.run(
            executable = ctx.executable._tool,
            arguments = [args],
            inputs = [file],
            outputs = [out],
            env = {},
            mnemonic = "TextCorpus",
            progress_message = "Reading the texts of %s" % file.short_path,
        )
    return [DefaultInfo(files = depset(outputs), runfiles = ctx.runfiles(outputs))]

titan_text_corpus = rule(
    implementation = _titan_text_corpus_impl,
    doc = "NAME/FILE.jsonl for every FILE: one JSON object with `text` a line for each document, in the order of the file.",
    attrs = {
        "corpus": attr.label(allow_files = True, mandatory = True, doc = "The files."),
        "format": attr.string(
            default = "auto",
            doc = "Of all files: jsonl, text (one document a file), parquet, arrow. By default as their names say.",
            values = ["auto", "jsonl", "text", "parquet", "arrow"],
        ),
        "text_field": attr.string(default = "text", doc = "The key of JSON's objects, the column of Parquet and Arrow."),
        "_tool": attr.label(default = "//tools:text_corpus", executable = True, cfg = "target"),
    },
)
