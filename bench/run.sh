#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs what the benches need (and names it first), builds them for this machine and runs them on
# one core. JSON and plots are written to build/bench/results/.
# Usage: bench/run.sh [--repetitions N] [--min-time SECONDS] [--filter REGEX] [NAME...]
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/packages.sh

repetitions=5 min_time=0.2 filter=. names=()
while (($# > 0)); do
  case $1 in
    --repetitions) repetitions=$2; shift ;;
    --min-time) min_time=$2; shift ;;
    --filter) filter=$2; shift ;;
    -*) sed -n '3,5s/^# //p' "$0"; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done

need_packages "the benches" \
  "${BUILD_PACKAGES[@]}" libbenchmark-dev python3 -- ccache gnuplot-nox util-linux
need_tools

say "Building the benches"
cmake --preset bench
cmake --build --preset bench

results=build/bench/results
mkdir -p "$results"
if ((${#names[@]} == 0)); then
  mapfile -t names < <(find build/bench/bench -maxdepth 1 -name 'bench_*' -type f -perm -u+x \
    -printf '%f\n' 2> /dev/null | sed 's/^bench_//' | sort)
fi
if ((${#names[@]} == 0)); then die "there are no benches"; fi

# A bench of two threads needs two cores, which its name shows.
pin() {
  local name=$1 cores
  shift
  cores=$(($(processors) - 1))
  [[ $name == *two_thread* ]] && cores="$((cores > 0 ? cores - 1 : 0)),$cores"
  if command -v taskset > /dev/null; then taskset -c "$cores" "$@"; else "$@"; fi
}

status=0
for name in "${names[@]}"; do
  say "bench_$name"
  if ! pin "$name" "build/bench/bench/bench_$name" \
    --benchmark_filter="$filter" --benchmark_repetitions="$repetitions" \
    --benchmark_min_time="$min_time" --benchmark_enable_random_interleaving=true \
    --benchmark_report_aggregates_only=false --benchmark_display_aggregates_only=true \
    --benchmark_out="$results/$name.json" --benchmark_out_format=json; then
    status=1
    continue
  fi
  if command -v gnuplot > /dev/null && [[ -s $results/$name.json ]]; then
    python3 bench/plot.py "$results/$name.json" "$results/$name.svg" || status=1
  fi
done

say "Results"
ls -l "$results"
exit "$status"
