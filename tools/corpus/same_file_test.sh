#!/bin/sh
# same_file_test.sh EXPECTED ACTUAL
cmp "$1" "$2" || {
  echo "$2 is not what is checked in as $1" >&2
  exit 1
}
