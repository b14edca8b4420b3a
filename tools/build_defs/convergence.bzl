"""A convergence test: does training still take the course that was recorded, and would the test notice if it did not?"""

load("//tools/build_defs:bundle.bzl", "BUNDLE_DIRECTORY", "BundleInfo", "bundle_tree")
load("//tools/build_defs:experiment.bzl", "runfiles_path", "write_script")

def convergence(golden, steps, tolerance, overrides = []):
    """What titan_experiment's `convergence` takes.

    Args:
      golden: the JSON file with the recorded losses; `bazel run :x.update_golden` writes it.
      steps: how many optimizer steps to take.
      tolerance: the largest relative difference of a step's loss, as a string such as "0.01".
      overrides: "path=value" settings of the test run, such as a smaller batch.
    """
    return struct(golden = golden, overrides = overrides, steps = steps, tolerance = tolerance)

def _arguments(ctx):
    return [runfiles_path(ctx, ctx.executable._driver), "--bundle=" + BUNDLE_DIRECTORY] + [
        "--steps=%d" % ctx.attr.steps,
        "--tolerance=" + ctx.attr.tolerance,
    ] + ["--set='%s'" % override for override in ctx.attr.overrides]

def _runfiles(ctx, files = []):
    tree = bundle_tree(ctx.attr.files[BundleInfo], [ctx.executable._driver] + files)
    return ctx.runfiles(**tree).merge(ctx.attr._driver[DefaultInfo].default_runfiles)

def _convergence_test_impl(ctx):
    golden = "--golden=" + runfiles_path(ctx, ctx.file.golden)
    script = write_script(ctx, [" ".join(["exec"] + _arguments(ctx) + [golden])])
    return [DefaultInfo(executable = script, runfiles = _runfiles(ctx, [ctx.file.golden]))]

_ATTRS = {
    "files": attr.label(providers = [BundleInfo], mandatory = True),
    "overrides": attr.string_list(),
    "steps": attr.int(mandatory = True),
    "tolerance": attr.string(mandatory = True),
    "_driver": attr.label(default = "//tests/convergence:convergence", executable = True, cfg = "target"),
}

_convergence_test = rule(
    implementation = _convergence_test_impl,
    attrs = dict(_ATTRS, golden = attr.label(allow_single_file = [".json"], mandatory = True)),
    test = True,
)

def _update_golden_impl(ctx):
    golden = '"${BUILD_WORKSPACE_DIRECTORY:?start it with bazel run}"/' + ctx.attr.golden_path
    script = write_script(ctx, [" ".join(["exec"] + _arguments(ctx) + ["--update", "--golden=" + golden])])
    return [DefaultInfo(executable = script, runfiles = _runfiles(ctx))]

_update_golden = rule(
    implementation = _update_golden_impl,
    attrs = dict(_ATTRS, golden_path = attr.string(mandatory = True)),
    executable = True,
)

def convergence_targets(name, files, settings, **kwargs):
    """name.convergence_test and name.update_golden."""
    attrs = dict(
        files = files,
        overrides = settings.overrides,
        steps = settings.steps,
        tolerance = settings.tolerance,
        **kwargs
    )
    _convergence_test(name = name + ".convergence_test", golden = settings.golden, size = "medium", timeout = "long", **attrs)
    _update_golden(
        name = name + ".update_golden",
        golden_path = "%s/%s" % (native.package_name(), settings.golden),
        **attrs
    )
