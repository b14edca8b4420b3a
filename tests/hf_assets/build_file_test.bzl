"""Tests the Starlark functions behind the targets of an hf_assets repository."""

load("//tools/hf_assets:hf_assets.bzl", "build_file", "problem_with_groups")

_FILES = ["en/b.gz", "en/a.gz", "config.json"]

_BUILD_FILE = """package(default_visibility = ["//visibility:public"])
exports_files(["config.json", "en/a.gz", "en/b.gz"])
filegroup(name = "files", srcs = ["config.json", "en/a.gz", "en/b.gz"])
filegroup(name = "shards", srcs = ["en/b.gz", "en/a.gz"])
"""

_PROBLEMS = [
    ({}, ""),
    ({"shards": ["en/a.gz"]}, ""),
    ({"shards": ["en/c.gz"]}, "en/c.gz of \"shards\" is not one of files"),
    ({"files": []}, "the name \"files\" is taken"),
    ({"config.json": []}, "the name \"config.json\" is taken"),
]

def _differences():
    cases = [(build_file({"shards": ["en/b.gz", "en/a.gz"]}, _FILES), _BUILD_FILE)]
    cases += [(problem_with_groups(groups, _FILES), expected) for groups, expected in _PROBLEMS]
    return ["expected '%s', got '%s'" % (expected, got) for got, expected in cases if got != expected]

def _build_file_test_impl(ctx):
    # The comparison happens here, while Bazel analyses; the test tells its outcome.
    differences = _differences()
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    lines = ["#!/bin/sh", "cat <<'END_OF_DIFFERENCES'"] + differences
    lines += ["END_OF_DIFFERENCES", "exit %d" % (1 if differences else 0)]
    ctx.actions.write(script, "\n".join(lines) + "\n", is_executable = True)
    return [DefaultInfo(executable = script)]

build_file_test = rule(implementation = _build_file_test_impl, test = True)
