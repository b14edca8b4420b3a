# formatted FILE: prints FILE as it should be. Source this file; BUILDIFIER, CLANG_FORMAT and JSONNET_FORMAT name the
# formatters, and the current directory holds .clang-format.
formatted() {
  case $1 in
    *.bazel | *.bzl | *.BUILD) "$BUILDIFIER" -path="$1" <"$1" ;;
    *.jsonnet | *.libsonnet) "$JSONNET_FORMAT" "$1" <"$1" ;;
    *) "$CLANG_FORMAT" --assume-filename="$1" --style=file:.clang-format <"$1" ;;
  esac
}
