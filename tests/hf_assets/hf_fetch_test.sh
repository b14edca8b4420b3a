#!/bin/sh
# hf_fetch_test.sh TEST.py ARGUMENT: with the machine's own python3, as the repository rule runs the script.
PYTHONDONTWRITEBYTECODE=1 exec python3 "$@"
