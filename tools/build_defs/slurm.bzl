"""The rule that makes an experiment's Slurm job. See //launchers/slurm."""

load("//tools/build_defs:bundle.bzl", "BUNDLE_DIRECTORY", "BundleInfo", "bundle_tree")
load("//tools/build_defs:experiment.bzl", "ConfigInfo", "run_name", "runfiles_path", "write_script")

def _slurm_job_impl(ctx):
    config = ctx.attr.config[ConfigInfo]
    name = run_name(ctx.label, ".slurm")
    job = ctx.actions.declare_file(ctx.label.name[:-len(".slurm")] + ".sbatch")
    args = ctx.actions.args()
    args.add("script")
    args.add("--name", name)
    args.add("--json", config.json)
    args.add("--out", job)
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [args],
        inputs = [config.json],
        outputs = [job],
        mnemonic = "SlurmJob",
        progress_message = "Writing the Slurm job of %s" % ctx.label,
    )
    script = write_script(ctx, ['exec %s submit --name=%s --bundle=%s "$@"' % (
        runfiles_path(ctx, ctx.executable._tool),
        name,
        BUNDLE_DIRECTORY,
    )])
    return [DefaultInfo(
        executable = script,
        files = depset([job]),
        runfiles = ctx.runfiles(**bundle_tree(ctx.attr.files[BundleInfo], [ctx.executable._tool])),
    )]

slurm_job = rule(
    implementation = _slurm_job_impl,
    doc = "The batch script. `bazel run` installs the bundle and submits; with --dry_run it prints what it would submit.",
    attrs = {
        "config": attr.label(providers = [ConfigInfo], mandatory = True),
        "files": attr.label(providers = [BundleInfo], mandatory = True),
        "_tool": attr.label(default = "//launchers/slurm:slurm", executable = True, cfg = "target"),
    },
    executable = True,
)
