"""A corpus as a build action: text files in, one JSONL file out, the same bytes on every machine."""

def _id(file):
    # "../django_docs/ref/urls.txt" for a file of another repository.
    return file.short_path[3:] if file.short_path.startswith("../") else file.short_path

def _line(file):
    return "%s\t%s" % (_id(file), file.path)

def _text_corpus_impl(ctx):
    args = ctx.actions.args()
    args.add(ctx.outputs.jsonl)
    args.add(ctx.outputs.manifest)

    files = ctx.actions.args()
    files.set_param_file_format("multiline")
    files.use_param_file("%s", use_always = True)
    files.add_all(ctx.files.srcs, map_each = _line)
    ctx.actions.run(
        executable = ctx.executable._make_corpus,
        arguments = [args, files],
        inputs = ctx.files.srcs,
        outputs = [ctx.outputs.jsonl, ctx.outputs.manifest],
        env = {},
        mnemonic = "Corpus",
    )
    return [DefaultInfo(files = depset([ctx.outputs.jsonl]))]

text_corpus = rule(
    implementation = _text_corpus_impl,
    doc = """Packs text files into NAME.jsonl: a line per file, {"id": path, "text": content}, sorted by path.

    NAME.manifest.json lists size and sha256 of each file that went in. Only the JSONL is in the default outputs, so that
    the target can be a corpus of a titan_experiment.""",
    attrs = {
        "srcs": attr.label_list(allow_files = True, mandatory = True),
        "_make_corpus": attr.label(default = "//tools/corpus:make_corpus", executable = True, cfg = "target"),
    },
    outputs = {
        "jsonl": "%{name}.jsonl",
        "manifest": "%{name}.manifest.json",
    },
)
