"""C++ targets of this project: one place for what all of them share.

Compiler options are the same for every file and so stand in .bazelrc: the language, position independence, and warnings
as errors for our own files (not for generated ones and third parties). Visibility is Bazel's: private to the package
unless the target or its package says otherwise.
"""

# What a program of --config=asan needs besides.
ASAN_DEPS = select({
    "//tools/build_defs:is_asan": ["//tools/build_defs:asan_options"],
    "//conditions:default": [],
})

def titan_cc_library(name, **kwargs):
    native.cc_library(name = name, **kwargs)

def titan_cc_binary(name, deps = [], **kwargs):
    native.cc_binary(name = name, deps = deps + ASAN_DEPS, **kwargs)

def titan_cc_test(name, size = "small", deps = [], copts = [], **kwargs):
    """A GoogleTest; `main` comes with it."""
    native.cc_test(
        name = name,
        size = size,
        # What is tested is optimized in its library; the test itself would take longer to optimize than to run.
        copts = ["-O0"] + copts,
        deps = deps + ["@com_google_googletest//:gtest_main"] + ASAN_DEPS,
        **kwargs
    )
