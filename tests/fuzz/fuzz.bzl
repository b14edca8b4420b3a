"""Fuzz targets: one entry point, which GCC's build replays a corpus with and --config=fuzz fuzzes. See README.md."""

load("//tools/build_defs:cc.bzl", "ASAN_DEPS")

def fuzz_target(name, deps, size = "small"):
    """The test NAME_fuzz of NAME_fuzz.cc and the files in corpus/NAME.

    Args:
      name: what is fuzzed.
      deps: the libraries under test.
      size: of the test.
    """
    corpus = native.package_name() + "/corpus/" + name
    native.cc_test(
        name = name + "_fuzz",
        size = size,
        srcs = [name + "_fuzz.cc"],
        args = select({
            ":is_fuzz": ["-runs=0", corpus],  # libFuzzer then runs the corpus, and ends
            "//conditions:default": [corpus],
        }),
        data = native.glob(["corpus/" + name + "/*"]),
        linkopts = select({
            ":is_fuzz": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        tags = ["fuzz"],
        deps = deps + [":fuzz_target"] + select({
            ":is_fuzz": [],
            "//conditions:default": [":replay"],
        }) + ASAN_DEPS,
    )
