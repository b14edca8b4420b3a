"""Repository rule for objects of S3 and stores that speak like it, with a sha256 each. See README.md.

    load("//tools/s3_assets:s3_assets.bzl", "s3_assets")

    s3_assets(
        name = "fineweb",
        bucket = "my-corpora",
        files = {"fineweb/000_00000.parquet": "<sha256>"},
    )
"""

load("//tools/hf_assets:hf_assets.bzl", "build_file", "problem_with_groups")

_TIMEOUT_S = 7 * 24 * 3600  # of all files; a connection that is silent ends sooner

def _s3_assets_impl(ctx):
    problem = problem_with_groups(ctx.attr.groups, ctx.attr.files.keys())
    if problem:
        fail("s3_assets %s: groups: %s" % (ctx.name, problem))
    python = ctx.which("python3")
    if not python:
        fail("s3_assets %s: python3 is needed. On Debian and Ubuntu: apt-get install python3" % ctx.name)
    spec = struct(
        anonymous = ctx.attr.anonymous,
        bucket = ctx.attr.bucket,
        endpoint = ctx.attr.endpoint,
        files = ctx.attr.files,
        region = ctx.attr.region,
    )
    ctx.file("s3_assets_spec.json", spec.to_json())
    ctx.report_progress("fetching %d files of %s" % (len(ctx.attr.files), ctx.attr.bucket))
    script = ctx.path(Label("//tools/s3_assets:folder.txt")).dirname.get_child("s3_fetch.py")
    result = ctx.execute(
        [python, script, "--client", ctx.path(Label("@botocore//:six.py")).dirname, "s3_assets_spec.json", "."],
        environment = {"PYTHONDONTWRITEBYTECODE": "1"},
        timeout = _TIMEOUT_S,
    )
    if result.return_code != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        fail("s3_assets %s: %s" % (ctx.name, lines[-1] if lines else "s3_fetch.py ended with %d" % result.return_code))
    ctx.delete("s3_assets_spec.json")
    ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % ctx.name)
    ctx.file("BUILD.bazel", build_file(ctx.attr.groups, ctx.attr.files.keys()))

s3_assets = repository_rule(
    implementation = _s3_assets_impl,
    doc = """Objects of a bucket.

    Labels: @NAME//:KEY for each, @NAME//:GROUP for each of groups, @NAME//:files for all.""",
    attrs = {
        "anonymous": attr.bool(doc = "Public buckets: ask without credentials."),
        "bucket": attr.string(mandatory = True),
        "endpoint": attr.string(doc = "Address of a store other than Amazon's; else AWS_ENDPOINT_URL_S3 says it."),
        "files": attr.string_dict(mandatory = True, doc = "Key of the object to sha256."),
        "groups": attr.string_list_dict(doc = "Name of a target to keys, such as the shards of a corpus."),
        "region": attr.string(doc = "Of the bucket; else the one that the user has configured."),
    },
)
