#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs what the examples need (and names it first), builds them and runs them.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/packages.sh

need_packages "the examples" \
  "${BUILD_PACKAGES[@]}" libcli11-dev nlohmann-json3-dev -- \
  ccache qemu-system-x86 qemu-utils
need_tools

say "Building the examples"
cmake --preset release -DPHASEBIT_BUILD_BENCH=OFF
cmake --build --preset release

# run NAME ARGUMENTS...: an example that is not there yet is passed over.
run() {
  local program=build/release/examples/$1
  [[ -x $program ]] || return 0
  shift
  say "$program $*"
  "$program" "$@"
}

run hello_nvme
run nvme_perf --backend simulated --rw randread --time 2 --verify
run identify --backend simulated
