"""An experiment as build targets. See README.md for what each target gives.

    load("//tools/build_defs:titan_experiment.bzl", "convergence", "titan_experiment")

    titan_experiment(
        name = "debug",
        src = "debug.jsonnet",
        deps = ["//experiments/lib"],  # Every import is declared; an undeclared one fails the build.
        corpora = {"docs": "//experiments/data:docs"},
        tokenizer = "//experiments/data:tokenizer.json",
    )
"""

load("//tools/build_defs:bundle.bzl", "bundle_digest", "bundle_files", "bundle_run", "bundle_tar")
load("//tools/build_defs:convergence.bzl", "convergence_targets", _convergence = "convergence")
load("//tools/build_defs:experiment.bzl", "experiment_check", "experiment_config", "experiment_diff", "experiment_plan")
load("//tools/build_defs:slurm.bzl", "slurm_job")
load("//tools/jsonnet:jsonnet.bzl", "jsonnet_to_json")

convergence = _convergence

def titan_experiment(
        name,
        src,
        deps = [],
        tokenizer = None,
        corpora = {},
        files = [],
        convergence = None,
        tags = [],
        visibility = None,
        trainer = "//titan/train:titan_trainer"):
    """Declares the targets of one experiment.

    Args:
      name: of the run target; the others are name.check, name.plan, name.bundle, name.digest, name.slurm, name.diff
        and, with `convergence`, name.convergence_test and name.update_golden.
      src: the Jsonnet file.
      deps: jsonnet_library targets with every file that it imports.
      tokenizer: a tokenizer.json. None if every source holds tokens already.
      corpora: corpus name, as in data.sources, to a target with its files. The reader sees them sorted by path.
      files: other files that the configuration names, such as a pipeline schedule; it knows them by their file names.
      convergence: what convergence() returns.
      tags: of every target.
      visibility: of every target.
      trainer: the program that the bundle starts, for tests of these rules.
    """
    common = dict(tags = tags, visibility = visibility)
    manual = dict(tags = tags + ["manual"], visibility = visibility)  # Large, or of use only to other targets.

    jsonnet_to_json(
        name = name + ".json",
        src = src,
        out = name + ".experiment.json",
        deps = deps,
        **common
    )
    experiment_config(
        name = name + ".config",
        src = src,
        json = name + ".experiment.json",
        deps = deps,
        **common
    )
    experiment_check(name = name + ".check", config = name + ".config", size = "small", **common)
    experiment_plan(name = name + ".plan", config = name + ".config", files = files, **common)
    experiment_diff(name = name + ".diff", config = name + ".config", **common)

    if len({label: None for label in corpora.values()}) != len(corpora):
        fail("titan_experiment %s: two corpora are the same target" % name)
    bundle_files(
        name = name + ".files",
        config = name + ".config",
        corpora = {label: corpus for corpus, label in corpora.items()},
        files = files,
        plan = name + ".plan",
        stripped_trainer = trainer + ".stripped",
        tokenizer = tokenizer,
        trainer = trainer,
        **manual
    )
    bundle_run(name = name, files = name + ".files", **common)
    bundle_digest(name = name + ".digest", files = name + ".files", **common)
    bundle_tar(
        name = name + ".bundle",
        cuda = select({
            "//tools/cuda:is_enabled": True,
            "//conditions:default": False,
        }),
        files = name + ".files",
        **manual
    )
    slurm_job(name = name + ".slurm", config = name + ".config", files = name + ".files", **manual)
    if convergence:
        convergence_targets(name = name, files = name + ".files", settings = convergence, **common)
