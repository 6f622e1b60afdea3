#!/usr/bin/env bash
# Set-up of `make test`: the virtual environment, and beside it the cluster's programs and base image where this machine can run it.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && [ -z "${KUBECONFIG:-}" ]; then
  python3 tests/cluster/cluster.py build &
  build=$!
fi
make --no-print-directory setup
[ -z "${build:-}" ] || wait "$build"
