"""C++ targets of this project: one place for what all of them share.

Compiler options are the same for every file and so stand in .bazelrc: the language, position independence, and warnings
as errors for our own files (not for generated ones and third parties). Visibility is Bazel's: private to the package
unless the target or its package says otherwise.
"""

load("//tools/build_defs:precompiled_header.bzl", "precompiled_copts", "precompiled_deps")

# What a program of --config=asan needs besides.
ASAN_DEPS = select({
    "//tools/build_defs:is_asan": ["//tools/build_defs:asan_options"],
    "//conditions:default": [],
})

# What is tested is optimized in its library; the test itself would take longer to optimize than to run.
TEST_COPTS = ["-O0"]

# Rooms and tools that run for milliseconds, once. Optimizing them takes a fifth of their compilation.
QUICK_COPTS = ["-O1"]
_QUICK_ROOMS = [
    "launchers",
    "titan/config",
    "titan/metrics",
    "titan/plan",
    "tools",
]

def _is_quick():
    package = native.package_name()
    return any([package == room or package.startswith(room + "/") for room in _QUICK_ROOMS])

# The largest of the precompiled headers that a target's direct dependencies call for.
_PRECOMPILED = [
    ("//tools/deps:torch", "torch_headers"),
    ("//titan/config:experiment_cc_proto", "protobuf_headers"),
    ("@com_google_absl//:absl", "protobuf_headers"),
]

def _begins_with(deps, for_tests = False):
    """The copts and deps of a target without copts of its own: its optimization, and the precompiled header for that."""
    if type(deps) == type([]):
        for dep, header in _PRECOMPILED:
            if dep not in deps:
                continue
            optimization = []
            if for_tests:
                optimization, header = TEST_COPTS, header + "_of_tests"
            elif header == "protobuf_headers" and _is_quick():
                optimization, header = QUICK_COPTS, header + "_of_tools"
            copts = precompiled_copts("tools/build_defs/%s.hpp" % header)
            return optimization + copts, precompiled_deps("//tools/build_defs:" + header)
    return (TEST_COPTS if for_tests else []), []

def titan_cc_library(name, deps = [], copts = [], testonly = False, **kwargs):
    if not copts:
        copts, precompiled = _begins_with(deps, for_tests = testonly)
        deps = deps + precompiled
    native.cc_library(name = name, copts = copts, deps = deps, testonly = testonly, **kwargs)

def titan_cc_binary(name, deps = [], copts = [], testonly = False, **kwargs):
    if not copts:
        copts, precompiled = _begins_with(deps, for_tests = testonly)
        deps = deps + precompiled
    native.cc_binary(name = name, copts = copts, deps = deps + ASAN_DEPS, testonly = testonly, **kwargs)

def titan_cc_test(name, size = "small", deps = [], copts = [], **kwargs):
    """A GoogleTest; `main` comes with it."""
    if copts:
        copts = TEST_COPTS + copts
    else:
        copts, precompiled = _begins_with(deps, for_tests = True)
        deps = deps + precompiled
    native.cc_test(
        name = name,
        size = size,
        copts = copts,
        deps = deps + ["@com_google_googletest//:gtest_main"] + ASAN_DEPS,
        **kwargs
    )
