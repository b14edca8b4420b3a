"""Rules that need an experiment's configuration alone: no LibTorch, no data, under a second."""

load("//tools/jsonnet:jsonnet.bzl", "JsonnetInfo")

ConfigInfo = provider(fields = {
    "json": "What the Jsonnet file gave.",
    "proto": "The canonical Experiment, every default filled in.",
    "sources": "The Jsonnet files it was made from, the experiment's own first.",
})

def write_script(ctx, lines):
    """An executable file. `$runfiles` is the folder of its runfiles."""
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    ctx.actions.write(
        script,
        "\n".join(["#!/bin/sh", 'runfiles="${RUNFILES_DIR:-$0.runfiles}"'] + lines) + "\n",
        is_executable = True,
    )
    return script

def runfiles_path(ctx, file):
    """Where a script of write_script finds `file`."""
    if file.short_path.startswith("../"):
        return '"$runfiles"/' + file.short_path[len("../"):]
    return '"$runfiles"/%s/%s' % (ctx.workspace_name, file.short_path)

def _source_flags(files):
    """For messages: which Jsonnet file and line an error comes from."""
    return ["--source_name=" + files[0].short_path] + ["--jsonnet_source=" + file.short_path for file in files]

def _experiment_config_impl(ctx):
    sources = [ctx.file.src] + [
        file
        for file in depset(transitive = [dep[JsonnetInfo].files for dep in ctx.attr.deps]).to_list()
        if file != ctx.file.src
    ]
    proto = ctx.actions.declare_file(ctx.label.name[:-len(".config")] + ".experiment.binpb")
    args = ctx.actions.args()
    args.add("resolve")
    args.add("--json", ctx.file.json)
    args.add("--out", proto)
    args.add_all(_source_flags(sources))
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [args],
        inputs = [ctx.file.json] + sources,
        outputs = [proto],
        mnemonic = "ExperimentConfig",
        progress_message = "Reading the configuration of %s" % ctx.file.src.short_path,
    )
    return [
        DefaultInfo(files = depset([proto])),
        ConfigInfo(json = ctx.file.json, proto = proto, sources = sources),
    ]

_CONFIG_TOOL = attr.label(default = "//tools:experiment_config", executable = True, cfg = "target")

experiment_config = rule(
    implementation = _experiment_config_impl,
    doc = "The strict reader as a build action: it fails with every error of the configuration.",
    attrs = {
        "deps": attr.label_list(providers = [JsonnetInfo]),
        "json": attr.label(allow_single_file = [".json"], mandatory = True),
        "src": attr.label(allow_single_file = [".jsonnet"], mandatory = True),
        "_tool": _CONFIG_TOOL,
    },
)

def _experiment_check_impl(ctx):
    config = ctx.attr.config[ConfigInfo]
    script = write_script(ctx, [" ".join(
        ["exec", runfiles_path(ctx, ctx.executable._tool), "check", "--json", runfiles_path(ctx, config.json)] +
        _source_flags(config.sources),
    )])
    return [DefaultInfo(
        executable = script,
        runfiles = ctx.runfiles([config.json, ctx.executable._tool] + config.sources),
    )]

experiment_check_test = rule(
    implementation = _experiment_check_impl,
    doc = "The strict reader as a test.",
    attrs = {
        "config": attr.label(providers = [ConfigInfo], mandatory = True),
        "_tool": _CONFIG_TOOL,
    },
    test = True,
)

def experiment_check(name, **kwargs):
    experiment_check_test(name = name, **kwargs)

def _experiment_diff_impl(ctx):
    config = ctx.attr.config[ConfigInfo]
    script = write_script(ctx, [
        'if [ $# != 1 ]; then echo "usage: bazel run %s -- EXPERIMENT.json|EXPERIMENT.binpb|BUNDLE_DIRECTORY" >&2; exit 2; fi' % ctx.label,
        'exec %s diff %s "$1"' % (runfiles_path(ctx, ctx.executable._tool), runfiles_path(ctx, config.proto)),
    ])
    return [DefaultInfo(executable = script, runfiles = ctx.runfiles([config.proto, ctx.executable._tool]))]

experiment_diff = rule(
    implementation = _experiment_diff_impl,
    doc = "Prints where the experiment differs from another one.",
    attrs = {
        "config": attr.label(providers = [ConfigInfo], mandatory = True),
        "_tool": _CONFIG_TOOL,
    },
    executable = True,
)

PlanInfo = provider(fields = {
    "html": "The plan as a page.",
    "json": "The plan for programs.",
    "text": "The plan for a terminal.",
})

def run_name(label, suffix):
    """What reports call the experiment of the target `label`, whose name ends with `suffix`: such as llama3/debug."""
    package = label.package[len("experiments/"):] if label.package.startswith("experiments/") else label.package
    return "%s/%s" % (package, label.name[:-len(suffix)])

def named_files(files):
    """The files that a configuration may name, by the name that it knows them by: their file name."""
    named = {file.basename: file for file in files}
    if len(named) != len(files):
        fail("two of the experiment's files have the same name: %s" % ", ".join([file.short_path for file in files]))
    return named

def _experiment_plan_impl(ctx):
    config = ctx.attr.config[ConfigInfo]
    outputs = {
        kind: ctx.actions.declare_file(ctx.label.name + "." + suffix)
        for kind, suffix in [("text", "txt"), ("json", "json"), ("html", "html")]
    }
    args = ctx.actions.args()
    args.add("--name", run_name(ctx.label, ".plan"))
    args.add("--experiment", config.proto)
    for name, file in named_files(ctx.files.files).items():
        args.add("--file", file, format = name + "=%s")
    for kind, output in outputs.items():
        args.add("--" + kind, output)
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [args],
        inputs = [config.proto] + ctx.files.files,
        outputs = outputs.values(),
        mnemonic = "ExperimentPlan",
        progress_message = "Planning %s" % ctx.label,
    )
    script = write_script(ctx, ["exec cat " + runfiles_path(ctx, outputs["text"])])
    return [
        DefaultInfo(
            executable = script,
            files = depset(outputs.values()),
            runfiles = ctx.runfiles([outputs["text"]]),
        ),
        PlanInfo(**outputs),
    ]

experiment_plan = rule(
    implementation = _experiment_plan_impl,
    doc = "What a run will need. The build fails if the experiment does not fit its cluster; `bazel run` prints the plan.",
    attrs = {
        "config": attr.label(providers = [ConfigInfo], mandatory = True),
        "files": attr.label_list(allow_files = True, doc = "That the configuration may name."),
        "_tool": attr.label(default = "//tools:plan", executable = True, cfg = "target"),
    },
    executable = True,
)
