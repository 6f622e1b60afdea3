#!/usr/bin/env bash
# Set-up of `make test` and `make demo`: the virtual environment, and beside it the cluster's programs and images.
set -euo pipefail
cd "$(dirname "$0")/../.."
python3 tools/cluster/target.py &
make --silent setup
wait $!
