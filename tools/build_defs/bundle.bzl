"""Rules that make an experiment's bundle: what `bazel run` starts, the archive, the digest. See //tools/bundle."""

load("//tools/build_defs:experiment.bzl", "ConfigInfo", "PlanInfo", "named_files", "runfiles_path", "write_script")
load("//tools/build_defs:provenance.bzl", "SourcesInfo", "build_definition", "sources_aspect")

BundleInfo = provider(fields = {
    "digest": "A file with the sha256 of `manifest`.",
    "entries": "dict: path in the bundle to File, MANIFEST left out.",
    "manifest": "The file MANIFEST.",
    "repositories": "list: names of the repositories that its data came from.",
    "source_list": "The file sources.txt.",
})

_TOOL = attr.label(default = "//tools/bundle:bundle_tool", executable = True, cfg = "target")

def bundle_tree(info, tool = []):
    """What ctx.runfiles needs so that the bundle lies in the runfiles as the folder BUNDLE_DIRECTORY."""
    links = {"%s/%s" % (_DIRECTORY, path): file for path, file in info.entries.items()}
    links[_DIRECTORY + "/MANIFEST"] = info.manifest
    return dict(files = tool, root_symlinks = links)

_DIRECTORY = "bundle"

BUNDLE_DIRECTORY = '"$runfiles"/' + _DIRECTORY

def _libraries(target):
    """The shared libraries that a program is linked to, by file name."""
    return {
        "lib/" + file.basename: file
        for file in target[DefaultInfo].default_runfiles.files.to_list()
        if ".so" in file.basename
    }

def corpus_files(files):
    """The files of one corpus by the names that the bundle gives them: file names, or paths where those are not unique."""
    unique = len({file.basename: None for file in files}) == len(files)
    return {file.basename if unique else file.short_path.replace("../", ""): file for file in files}

def _entries(ctx):
    config = ctx.attr.config[ConfigInfo]
    plan = ctx.attr.plan[PlanInfo]
    entries = {
        "bin/titan_trainer": ctx.file.stripped_trainer,
        "experiment.binpb": config.proto,
        "experiment.json": config.json,
        "plan.html": plan.html,
        "plan.json": plan.json,
        "plan.txt": plan.text,
        "run": ctx.file._run,
    }
    if ctx.file.tokenizer:
        entries["data/tokenizer.json"] = ctx.file.tokenizer
    entries.update({"files/" + name: file for name, file in named_files(ctx.files.files).items()})
    for target, corpus in ctx.attr.corpora.items():
        files = corpus_files(target[DefaultInfo].files.to_list())
        entries.update({"data/%s/%s" % (corpus, name): file for name, file in files.items()})
    return entries

def _add_entries(args, entries):
    """Appends PATH=FILE arguments."""
    for path, file in sorted(entries.items()):
        args.add(file, format = path + "=%s")
    args.use_param_file("@%s", use_always = True)
    args.set_param_file_format("multiline")

def _hash_libraries(ctx, libraries):
    """Apart from the rest, because 0.5 GB (4 GB with CUDA) take a while, and seldom change."""
    hashed = ctx.actions.declare_file(ctx.label.name + ".libraries")
    flags = ctx.actions.args()
    flags.add("hash")
    flags.add("--out", hashed)
    files = ctx.actions.args()
    _add_entries(files, libraries)
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [flags, files],
        inputs = libraries.values(),
        outputs = [hashed],
        mnemonic = "BundleHash",
        progress_message = "Hashing the libraries of %s" % ctx.label,
    )
    return hashed

def _bundle_files_impl(ctx):
    base = ctx.label.name[:-len(".files")]
    libraries = _libraries(ctx.attr.trainer)
    hashed = _hash_libraries(ctx, libraries)
    entries = _entries(ctx)
    manifest = ctx.actions.declare_file(base + ".MANIFEST")
    digest = ctx.actions.declare_file(base + ".digest.txt")
    data_manifest = ctx.actions.declare_file(base + ".data.json")
    source_list = ctx.actions.declare_file(base + ".sources.txt")
    sources = depset(
        ctx.attr.config[ConfigInfo].sources +
        [file for file in entries.values() if file.is_source and not file.owner.workspace_name],
        transitive = [ctx.attr.trainer[SourcesInfo].files],
    ).to_list()

    flags = ctx.actions.args()
    flags.add("index")
    flags.add("--experiment", entries["experiment.json"])
    flags.add("--hashed", hashed)
    flags.add("--manifest", manifest)
    flags.add("--digest", digest)
    flags.add("--data_manifest", data_manifest)
    flags.add("--source_list", source_list)
    files = ctx.actions.args()
    for source in sources:
        files.add(source, format = "--source=" + source.short_path + "=%s")
    _add_entries(files, entries)
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [flags, files],
        inputs = entries.values() + [hashed] + sources,
        outputs = [manifest, digest, data_manifest, source_list],
        mnemonic = "BundleIndex",
        progress_message = "Listing the bundle of %s" % ctx.label,
    )
    entries.update(libraries)
    entries["data.json"] = data_manifest
    entries["sources.txt"] = source_list
    return [
        DefaultInfo(files = depset([manifest])),
        BundleInfo(
            digest = digest,
            entries = entries,
            manifest = manifest,
            repositories = depset(transitive = [
                target[SourcesInfo].repositories
                for target in ctx.attr.corpora
                if SourcesInfo in target
            ]).to_list(),
            source_list = source_list,
        ),
    ]

bundle_files = rule(
    implementation = _bundle_files_impl,
    doc = "The files of a bundle, with MANIFEST and data.json, before anything is copied.",
    attrs = {
        "config": attr.label(providers = [ConfigInfo], mandatory = True),
        "corpora": attr.label_keyed_string_dict(allow_files = True, aspects = [sources_aspect]),
        "files": attr.label_list(allow_files = True),
        "plan": attr.label(providers = [PlanInfo], mandatory = True),
        "stripped_trainer": attr.label(allow_single_file = True, mandatory = True),
        "tokenizer": attr.label(allow_single_file = True),
        "trainer": attr.label(aspects = [sources_aspect], mandatory = True),
        "_run": attr.label(default = "//launchers:run.sh", allow_single_file = True),
        "_tool": _TOOL,
    },
)

def _bundle_run_impl(ctx):
    info = ctx.attr.files[BundleInfo]
    script = write_script(ctx, ['exec %s/run "$@"' % BUNDLE_DIRECTORY])
    return [DefaultInfo(executable = script, runfiles = ctx.runfiles(**bundle_tree(info)))]

_FILES = attr.label(providers = [BundleInfo], mandatory = True)

bundle_run = rule(
    implementation = _bundle_run_impl,
    doc = "Trains on this machine, from the bundle laid out as symbolic links: nothing is copied or unpacked.",
    attrs = {"files": _FILES},
    executable = True,
)

def _bundle_digest_impl(ctx):
    digest = ctx.attr.files[BundleInfo].digest
    script = write_script(ctx, ["exec cat " + runfiles_path(ctx, digest)])
    return [DefaultInfo(executable = script, files = depset([digest]), runfiles = ctx.runfiles([digest]))]

bundle_digest = rule(
    implementation = _bundle_digest_impl,
    doc = "The run id.",
    attrs = {"files": _FILES},
    executable = True,
)

def _bundle_tar_impl(ctx):
    info = ctx.attr.files[BundleInfo]
    tar = ctx.actions.declare_file(ctx.label.name + ".tar")
    provenance = ctx.actions.declare_file(ctx.label.name + ".provenance.json")
    definition = ctx.actions.declare_file(ctx.label.name + ".definition.json")
    ctx.actions.write(definition, build_definition(ctx.label, ctx.attr.cuda, info.repositories))

    flags = ctx.actions.args()
    flags.add("tar")
    flags.add("--manifest", info.manifest)
    flags.add("--tar", tar)
    flags.add("--provenance", provenance)
    flags.add("--definition", definition)
    flags.add("--source_list", info.source_list)
    files = ctx.actions.args()
    _add_entries(files, info.entries)
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [flags, files],
        inputs = info.entries.values() + [info.manifest, definition],
        outputs = [tar, provenance],
        mnemonic = "BundleTar",
        progress_message = "Packing %s" % ctx.label,
        execution_requirements = {"no-cache": "1"},  # 0.6 GB for each experiment; quicker made than kept.
    )
    script = write_script(ctx, [
        'exec %s install --bundle=%s "$@"' % (runfiles_path(ctx, ctx.executable._tool), BUNDLE_DIRECTORY),
    ])

    # `bazel run` copies the tree in its runfiles, and must not wait for an archive of 0.6 GB (4 GB with CUDA). So the archive
    # is an output group, which .bazelrc adds to every build and takes from every run.
    return [
        DefaultInfo(
            executable = script,
            files = depset([script]),
            runfiles = ctx.runfiles(**bundle_tree(info, [ctx.executable._tool])),
        ),
        OutputGroupInfo(bundle_archive = depset([tar, provenance])),
    ]

bundle_tar = rule(
    implementation = _bundle_tar_impl,
    doc = "The bundle as an archive, and its provenance. `bazel run` writes it as a directory.",
    attrs = {
        "cuda": attr.bool(doc = "For the provenance."),
        "files": _FILES,
        "_tool": _TOOL,
    },
    executable = True,
)
