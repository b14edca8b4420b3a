"""Headers that are parsed once for many sources.

LibTorch's, Protobuf's, Abseil's and GoogleTest's headers are most of what the compiler reads of our files: 12 of the 18
seconds of a file of the trainer. A precompiled_header parses them once; a target of `precompiled_copts` and
`precompiled_deps` begins with the result. A precompiled header fits only sources that are compiled with its own
optimization; -Winvalid-pch, an error, says where one does not.

GCC's files differ from run to run in a few bytes that do not reach the objects (//tests/reproducibility compares).
--//tools/build_defs:precompiled_headers=false does without: --config=asan, so that something checks that every file
includes what it uses.
"""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

_ENABLED = "@titan//tools/build_defs:has_precompiled_headers"

def precompiled_copts(path):
    """What a target is compiled with that begins with the precompiled header at `path`, as a quoted #include finds it."""
    return select({
        _ENABLED: ["-include", path, "-Winvalid-pch"],
        "//conditions:default": [],
    })

def precompiled_deps(label):
    return select({
        _ENABLED: [label],
        "//conditions:default": [],
    })

def _implementation(ctx):
    # The compiler takes a .hpp for C++, and finds it beside its .gch; only the latter is read.
    header = ctx.actions.declare_file(ctx.label.name + ".hpp")
    precompiled = ctx.actions.declare_file(ctx.label.name + ".hpp.gch")
    ctx.actions.write(header, "".join(["#include <%s>\n" % include for include in ctx.attr.includes]))

    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    context = cc_common.merge_cc_infos(cc_infos = [dep[CcInfo] for dep in ctx.attr.deps]).compilation_context
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        source_file = header.path,
        output_file = precompiled.path,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts + ctx.attr.copts,
        include_directories = context.includes,
        quote_include_directories = context.quote_includes,
        system_include_directories = context.system_includes,
        preprocessor_defines = context.defines,
        use_pic = True,
    )
    ctx.actions.run(
        executable = cc_common.get_tool_for_action(feature_configuration = features, action_name = CPP_COMPILE_ACTION_NAME),
        arguments = cc_common.get_memory_inefficient_command_line(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
            variables = variables,
        ),
        env = cc_common.get_environment_variables(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
            variables = variables,
        ),
        inputs = depset([header], transitive = [context.headers, toolchain.all_files]),
        outputs = [precompiled],
        mnemonic = "PrecompileHeader",
        progress_message = "Precompiling %s" % header.short_path,
    )

    # Not the dependencies' own: what a file includes, its target depends on.
    context = cc_common.create_compilation_context(headers = depset([header, precompiled]))
    return [CcInfo(compilation_context = context), DefaultInfo(files = depset([precompiled]))]

precompiled_header = rule(
    implementation = _implementation,
    attrs = {
        "copts": attr.string_list(doc = "Those of the sources that are to begin with it."),
        "deps": attr.label_list(providers = [CcInfo]),
        "includes": attr.string_list(mandatory = True),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)

def _flag_implementation(ctx):
    return []

precompiled_headers_flag = rule(
    implementation = _flag_implementation,
    build_setting = config.bool(flag = True),
)
