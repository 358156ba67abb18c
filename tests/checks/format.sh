#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Every C++ file is as clang-format 16 writes it. `format.sh --fix` writes them so.
set -euo pipefail
cd "${PHASEBIT_ROOT:-$(dirname "$0")/../..}"

tool=$(command -v clang-format-16) || { echo "skipped: clang-format-16 is not installed"; exit 77; }

find . \( -name 'build*' -o -name .git \) -prune -o \
  \( -name '*.hpp' -o -name '*.cpp' \) -print0 | sort -z > "${TMPDIR:-/tmp}/phasebit-format.$$"
trap 'rm -f "${TMPDIR:-/tmp}/phasebit-format.$$"' EXIT

if [[ ${1:-} == --fix ]]; then
  xargs -0r "$tool" -i < "${TMPDIR:-/tmp}/phasebit-format.$$"
else
  xargs -0r "$tool" --dry-run -Werror --ferror-limit=3 < "${TMPDIR:-/tmp}/phasebit-format.$$"
fi
