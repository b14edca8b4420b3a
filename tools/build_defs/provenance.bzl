"""Where a bundle came from: the pinned packages, and the sources of this repository."""

load("//tools/deps:lock.bzl", "RUNTIME_PINS_CPU", "RUNTIME_PINS_CUDA")

SourcesInfo = provider(fields = {"files": "depset of source files of this repository."})

_DEPENDENCY_ATTRS = ["deps", "srcs", "hdrs", "textual_hdrs", "actual"]

def _as_list(value):
    return value if type(value) == "list" else [value]

def _sources_aspect_impl(_target, ctx):
    direct = []
    transitive = []
    for name in _DEPENDENCY_ATTRS:
        for dependency in _as_list(getattr(ctx.rule.attr, name, [])):
            if type(dependency) != "Target":
                continue
            if SourcesInfo in dependency:
                transitive.append(dependency[SourcesInfo].files)
            direct += [
                file
                for file in dependency[DefaultInfo].files.to_list()
                # Other repositories are covered by the digests of their packages.
                if file.is_source and not file.owner.workspace_name
            ]
    return [SourcesInfo(files = depset(direct, transitive = transitive))]

sources_aspect = aspect(
    implementation = _sources_aspect_impl,
    doc = "Every file of this repository that a C++ target is compiled from.",
    apply_to_generating_rules = True,  # .pb.cc to .proto
    attr_aspects = _DEPENDENCY_ATTRS,
)

def _descriptor(pin):
    uri = "pkg:pypi/%s@%s" % (pin.package, pin.version)
    return {"uri": uri, "annotations": {"platform": pin.platform}, "digest": {"sha256": pin.sha256}}

def build_definition(label, cuda):
    """The JSON that `bundle tar --definition` reads."""
    pins = RUNTIME_PINS_CUDA if cuda else RUNTIME_PINS_CPU
    return json.encode({
        "dependencies": [_descriptor(pin) for pin in pins],
        "parameters": {
            "cuda": cuda,
            "target": "//%s:%s" % (label.package, label.name),
        },
    })
