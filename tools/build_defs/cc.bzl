"""C++ targets of this project: one place for what all of them share.

Warnings are errors (see .bazelrc, which scopes them to our own files); visibility is private unless a target says otherwise.
"""

def titan_cc_library(name, **kwargs):
    native.cc_library(name = name, **kwargs)

def titan_cc_binary(name, **kwargs):
    native.cc_binary(name = name, **kwargs)

def titan_cc_test(name, size = "small", deps = [], **kwargs):
    """A GoogleTest; `main` comes with it."""
    native.cc_test(
        name = name,
        size = size,
        deps = deps + ["@com_google_googletest//:gtest_main"],
        **kwargs
    )
