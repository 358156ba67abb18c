#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs what the tests need (and names it first), builds them and runs them all.
# Usage: tests/run.sh [ctest options]
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/packages.sh

need_packages "the tests" \
  "${BUILD_PACKAGES[@]}" doctest-dev python3 -- \
  ccache pkg-config shellcheck clang-16 clang-19 clang-tidy-16 clang-format-16 libclang-rt-16-dev \
  g++-aarch64-linux-gnu g++-riscv64-linux-gnu gcc-arm-none-eabi libstdc++-arm-none-eabi-newlib \
  libisal-dev libssl-dev liburing-dev \
  libcli11-dev nlohmann-json3-dev libnvme-dev pciutils sg3-utils busybox-static file flex bison bc \
  qemu-system-x86 qemu-system-arm qemu-system-misc qemu-utils qemu-system-common
need_tools

say "Building the tests"
cmake --preset dev
status=0
cmake --build --preset dev -- -k 0 || status=$?

say "Running the tests"
ctest --preset dev -j "$(processors)" "$@" 2>&1 | tee build/dev/ctest.txt || status=$?

# ctest lists the skipped tests, but not the reasons.
log=build/dev/Testing/Temporary/LastTest.log
if [[ -e $log ]] && grep -q '^skipped: ' "$log"; then
  say "Skipped, and why"
  awk '/^[0-9]+\/[0-9]+ Testing: /{name = $3} /^skipped: /{sub(/^skipped: /, ""); print name ": " $0}' "$log"
fi
if ((status != 0)); then say "FAILED: see above"; fi
grep -E 'tests? passed' build/dev/ctest.txt || true
exit "$status"
