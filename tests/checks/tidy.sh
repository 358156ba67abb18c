#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# clang-tidy 16 finds nothing in any header. One translation unit includes them all, which costs one
# parse instead of a hundred; the freestanding tests bring templates that are instantiated.
set -euo pipefail
cd "${PHASEBIT_ROOT:-$(dirname "$0")/../..}"

tool=$(command -v clang-tidy-16) || { echo "skipped: clang-tidy-16 is not installed"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
hosted='^phasebit/hosted/'
if [[ -e /usr/include/fmt/format.h && -e /usr/include/boost/version.hpp ]]; then hosted='^$'; fi
(cd include && find phasebit -name '*.hpp' | sort) | grep -Ev "$hosted" |
  sed 's/.*/#include <&>/' > "$work/all.cpp"
printf '%s\n' -std=c++20 "-I$PWD/include" > "$work/compile_flags.txt"
shopt -s nullglob
printf '%s\0' "$work/all.cpp" tests/freestanding/use_*.cpp |
  xargs -0 -n 1 -P 2 "$tool" --quiet --config-file=.clang-tidy -p "$work"
