"""Where a bundle came from: the pinned packages, and the sources of this repository."""

load("//tools/deps:lock.bzl", "DJANGO_SDIST", "RUNTIME_PINS_CPU", "RUNTIME_PINS_CUDA")

# What corpora are made from, by repository.
_DATA_PINS = {"django_docs": DJANGO_SDIST}

SourcesInfo = provider(fields = {
    "files": "depset of source files of this repository.",
    "repositories": "depset of names of the other repositories that files came from.",
})

_DEPENDENCY_ATTRS = ["deps", "srcs", "hdrs", "textual_hdrs", "actual", "corpus"]

def _as_list(value):
    return value if type(value) == "list" else [value]

def _sources_aspect_impl(_target, ctx):
    files = []
    repositories = {}
    infos = []
    for name in _DEPENDENCY_ATTRS:
        for dependency in _as_list(getattr(ctx.rule.attr, name, [])):
            if type(dependency) != "Target":
                continue
            if SourcesInfo in dependency:
                infos.append(dependency[SourcesInfo])
            for file in dependency[DefaultInfo].files.to_list():
                if file.is_source and file.owner.workspace_name:
                    repositories[file.owner.workspace_name] = None
                elif file.is_source:
                    files.append(file)
    return [SourcesInfo(
        files = depset(files, transitive = [info.files for info in infos]),
        repositories = depset(repositories.keys(), transitive = [info.repositories for info in infos]),
    )]

sources_aspect = aspect(
    implementation = _sources_aspect_impl,
    doc = "Every file of this repository that a target is made from, and the other repositories.",
    apply_to_generating_rules = True,  # .pb.cc to .proto
    attr_aspects = _DEPENDENCY_ATTRS,
)

def _descriptor(pin):
    uri = "pkg:pypi/%s@%s" % (pin.package, pin.version)
    return {"uri": uri, "annotations": {"platform": pin.platform}, "digest": {"sha256": pin.sha256}}

def build_definition(label, cuda, repositories):
    """The JSON that `bundle tar --definition` reads."""
    pins = RUNTIME_PINS_CUDA if cuda else RUNTIME_PINS_CPU
    pins = pins + [_DATA_PINS[name] for name in sorted(repositories) if name in _DATA_PINS]
    return json.encode({
        "dependencies": [_descriptor(pin) for pin in pins],
        "parameters": {
            "cuda": cuda,
            "target": "//%s:%s" % (label.package, label.name),
        },
    })
