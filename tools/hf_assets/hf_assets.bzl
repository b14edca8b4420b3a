"""Repository rule for files of the Hugging Face hub, at a revision and with a sha256 each. See README.md.

    load("//tools/hf_assets:hf_assets.bzl", "hf_assets")

    hf_assets(
        name = "c4_en",
        files = {"en/c4-train.00000-of-01024.json.gz": "<sha256>"},
        groups = {"shards": ["en/c4-train.00000-of-01024.json.gz"]},
        repo = "allenai/c4",
        repo_type = "dataset",
        revision = "<commit>",
    )
"""

# This file loads no other, and its rule has no labels: Bazel fetches a repository anew when any of them changes.

_TIMEOUT_S = 7 * 24 * 3600  # of all files; a connection that is silent ends sooner

def _fail_with(ctx, result):
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    fail("hf_assets %s: %s" % (ctx.name, lines[-1] if lines else "hf_fetch.py ended with %d" % result.return_code))

def _run(ctx, arguments):
    python = ctx.which("python3")
    if not python:
        fail("hf_assets %s: python3 is needed. On Debian and Ubuntu: apt-get install python3" % ctx.name)
    script = ctx.path(Label("//tools/hf_assets:folder.txt")).dirname.get_child("hf_fetch.py")
    return ctx.execute([python, script] + arguments, timeout = _TIMEOUT_S)

def _client_constants(ctx):
    # The address of the hub, if the user names none, is the one in the hub's own client, which is pinned as any package.
    if ctx.os.environ.get("HF_ENDPOINT"):
        return []
    return ["--client", ctx.path(Label("@huggingface_hub//:huggingface_hub/constants.py"))]

def problem_with_groups(groups, files):
    """What is wrong with the names of `groups`, or the paths in them; "" if nothing is."""
    for group, paths in groups.items():
        if group in files or group == "files":
            return "the name \"%s\" is taken" % group
        for path in paths:
            if path not in files:
                return "%s of \"%s\" is not one of files" % (path, group)
    return ""

def build_file(groups, files):
    """The BUILD file of the repository."""
    groups = dict(groups, files = sorted(files))
    lines = ["package(default_visibility = [\"//visibility:public\"])"]
    lines.append("exports_files(%r)" % groups["files"])
    for group, paths in sorted(groups.items()):
        lines.append("filegroup(name = %r, srcs = %r)" % (group, paths))
    return "\n".join(lines) + "\n"

def _hf_assets_impl(ctx):
    problem = problem_with_groups(ctx.attr.groups, ctx.attr.files.keys())
    if problem:
        fail("hf_assets %s: groups: %s" % (ctx.name, problem))
    spec = struct(
        files = ctx.attr.files,
        repo = ctx.attr.repo,
        repo_type = ctx.attr.repo_type,
        revision = ctx.attr.revision,
    )
    ctx.file("hf_assets_spec.json", spec.to_json())
    cached = _run(ctx, ["cached", "hf_assets_spec.json"])
    if cached.stderr:
        _fail_with(ctx, cached)
    client = [] if cached.return_code == 0 else _client_constants(ctx)
    ctx.report_progress("fetching %d files of %s" % (len(ctx.attr.files), ctx.attr.repo))
    result = _run(ctx, ["fetch"] + client + ["hf_assets_spec.json", "."])
    if result.return_code != 0:
        _fail_with(ctx, result)
    ctx.delete("hf_assets_spec.json")
    ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % ctx.name)
    ctx.file("BUILD.bazel", build_file(ctx.attr.groups, ctx.attr.files.keys()))

hf_assets = repository_rule(
    implementation = _hf_assets_impl,
    doc = """Files of a repository on the Hugging Face hub.

    Labels: @NAME//:PATH for each file, @NAME//:GROUP for each of groups, @NAME//:files for all.""",
    attrs = {
        "files": attr.string_dict(mandatory = True, doc = "Path in the repository to sha256."),
        "groups": attr.string_list_dict(doc = "Name of a target to paths of files, such as the shards of a corpus."),
        "repo": attr.string(mandatory = True, doc = "ORGANISATION/NAME."),
        "repo_type": attr.string(default = "model", values = ["model", "dataset"]),
        "revision": attr.string(mandatory = True, doc = "A commit, 40 hexadecimal digits: a branch or tag moves."),
    },
)
