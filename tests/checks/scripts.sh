#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Our shell scripts are clean for shellcheck, and Python can read the others.
set -euo pipefail
cd "${PHASEBIT_ROOT:-$(dirname "$0")/../..}"

command -v shellcheck > /dev/null || { echo "skipped: shellcheck is not installed"; exit 77; }

mapfile -t shell < <(find . \( -name 'build*' -o -name .git \) -prune -o -name '*.sh' -print | sort)
[[ -e .ci/run ]] && shell+=(.ci/run)
(( ${#shell[@]} == 0 )) || shellcheck --external-sources --source-path=SCRIPTDIR "${shell[@]}"

find . \( -name 'build*' -o -name .git \) -prune -o -name '*.py' -print0 | sort -z |
  xargs -0r python3 -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]'
echo "${#shell[@]} shell scripts are clean"
