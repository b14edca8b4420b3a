"""Tests the Starlark functions that turn what pip, npm and df print into one line for the user."""

load("//tools/deps:pip.bzl", "available_mebibytes", "explain")

# What the tools really print, shortened, and a part of what the user must read.
_CASES = [
    (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('Temporary failure in name resolution')'\n" +
        "ERROR: No matching distribution found for torch==2.11.0",
        "the package index cannot be reached",
    ),
    ("ERROR: No matching distribution found for torch==2.11.0", "the package index lacks it"),
    (
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n" +
        "        Expected sha256 0123\n             Got        4567\n",
        "differs from its digest in tools/deps/lock.bzl. Do not use it: correct the digest, or ask the index's owner. (Got        4567)",
    ),
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
    ("npm error code E404\nnpm error 404 Not Found", "the package index lacks it"),
    ("npm error network request to a registry failed, reason: getaddrinfo EAI_AGAIN", "the package index cannot be reached"),
    ("/usr/bin/python3: No module named pip\n", "pip is missing. On Debian and Ubuntu: apt-get install python3-pip"),
    ("first\nlast words\n", "the downloader failed. (last words)"),
    ("", "the downloader failed. (it said nothing)"),
    ("x" * 1000, "x" * 100),
]

def _problems():
    problems = []
    for output, expected in _CASES:
        message = explain("torch 2.11.0", output)
        if not message.startswith("Cannot fetch torch 2.11.0: ") or expected not in message:
            problems.append("of '%s': expected '%s', got '%s'" % (output, expected, message))
        if "\n" in message or len(message) > 400:
            problems.append("not one line of at most 400 characters: " + message)
    for output, expected in [("  Avail\n  150\n", 150), ("Avail\n123456\n", 123456)]:
        if available_mebibytes(output) != expected:
            problems.append("of '%s': expected %d" % (output, expected))
    return problems

def _download_messages_test_impl(ctx):
    # The comparison happens here, while Bazel analyses; the test tells its outcome.
    problems = _problems()
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    lines = ["#!/bin/sh", "cat <<'END_OF_PROBLEMS'"] + problems + ["END_OF_PROBLEMS", "exit %d" % (1 if problems else 0)]
    ctx.actions.write(script, "\n".join(lines) + "\n", is_executable = True)
    return [DefaultInfo(executable = script)]

download_messages_test = rule(implementation = _download_messages_test_impl, test = True)
