# lint FILE: prints a line for each rule that FILE breaks, and fails if there is one. Source this file.
#
# A line that contains `lint: allow RULE because REASON` in its comment is exempt from RULE; for file_length, which has no
# line, it may stand anywhere in the file.

readonly MAX_LINES=600

lint_report() { # RULE FILE LINE MESSAGE
  echo "$2:$3: $4 [$1]"
  lint_failed=1
}

lint_header_guard() {
  local name=${1#titan/} guard
  guard=TITAN_$(tr 'a-z/.-' 'A-Z___' <<<"$name")_
  [[ $(grep -E -m1 '^#' "$1") == "#ifndef $guard" ]] || lint_report header_guard "$1" 1 "the include guard must be $guard"
}

lint_pattern() { # RULE FILE PATTERN MESSAGE
  local line
  while IFS=: read -r line _; do
    lint_report "$1" "$2" "$line" "$4"
  done < <(grep -nE "$3" "$2" | grep -vE "lint: allow $1 because [^ ]+")
}

lint() {
  local lines
  lint_failed=0
  lines=$(wc -l <"$1")
  if ((lines > MAX_LINES)) && ! grep -qE "lint: allow file_length because [^ ]+" "$1"; then
    lint_report file_length "$1" "$lines" "more than $MAX_LINES lines: it has become two things, so make two files of it"
  fi
  case $1 in
    *.cc | *.cu | *.cuh | *.h)
      lint_pattern torch_headers "$1" '^ *# *include *[<"]torch/(torch|all)\.h' \
        'costs 17 s in every file that includes it: take ATen/core/Tensor.h and ATen/ops/<op>.h'
      lint_pattern pragma_once "$1" '^ *# *pragma +once' 'use an include guard'
      ;;
  esac
  if [[ $1 == *.h ]]; then lint_header_guard "$1"; fi
  return $lint_failed
}
