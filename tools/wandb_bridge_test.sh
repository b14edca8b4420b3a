#!/bin/sh
# wandb_bridge_test.sh: the bridge's own tests, with the machine's Python.
exec python3 tools/wandb_bridge_test.py
