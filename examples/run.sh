#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs what the examples need (and names it first), builds them and runs the main job: NVMe reads
# and writes, each byte checked, on a simulated device and, where QEMU is there, on QEMU's NVMe
# controller. Then it shows the messages for mistakes and broken devices. Ends with the result of each
# step, and fails if any did.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/packages.sh

need_packages "the examples" \
  "${BUILD_PACKAGES[@]}" libcli11-dev nlohmann-json3-dev -- \
  ccache qemu-system-x86
need_tools

say "Building the examples"
cmake --preset release -DPHASEBIT_BUILD_BENCH=OFF
cmake --build --preset release

programs=build/release/examples
scratch=$(mktemp -d "${TMPDIR:-/tmp}/phasebit-examples.XXXXXX")
engine=  # the process that plays an FPGA
trap 'kill $engine 2> /dev/null || true; rm -rf "$scratch"' EXIT
limit=120  # seconds for one step; none needs as many
summary=() failed=0

note() {
  summary+=("$(printf '%-7s %s' "$1" "$2")")
  if [[ $1 == FAILED ]]; then failed=1; fi
}

# step TITLE PROGRAM ARGUMENTS...: must end with status 0.
step() {
  local title=$1 program=$2 status=0
  shift 2
  say "$title"
  printf '$ %s %s\n' "$program" "$*"
  timeout "$limit" "$programs/$program" "$@" || status=$?
  if ((status == 0)); then
    note passed "$title"
  else
    echo "exit status $status"
    note FAILED "$title"
  fi
}

# refused TITLE SENTENCE PROGRAM ARGUMENTS...: must fail with status 1 and print SENTENCE.
refused() {
  local title=$1 sentence=$2 program=$3 status=0 output
  shift 3
  printf '\n$ %s %s\n' "$program" "$*"
  output=$(timeout "$limit" "$programs/$program" "$@" 2>&1 > /dev/null) || status=$?
  echo "$output"
  echo "exit status $status"
  if ((status == 1)) && grep -q -- "$sentence" <<< "$output"; then
    note passed "$title"
  else
    note FAILED "$title"
  fi
}

# same TITLE FILE FILE
same() {
  sha256sum "$2" "$3"
  if [[ $(sha256sum < "$2") == "$(sha256sum < "$3")" ]]; then
    note passed "$1"
  else
    note FAILED "$1"
  fi
}

step "hello_nvme: a sentence to a block and back" hello_nvme
step "nvme_perf, simulated: random reads, each byte checked" \
  nvme_perf --backend simulated --rw randread --time 2 --verify
step "nvme_perf, simulated: reads and writes on two queues, each byte checked" \
  nvme_perf --backend simulated --rw randrw --queues 2 --time 2 --verify
step "identify, simulated" identify --backend simulated
if [[ -e /sys/bus/pci/devices ]]; then
  step "bind: the machine's own PCI functions" bind --all
else
  note skipped "bind: there is no /sys/bus/pci here"
fi

if command -v qemu-system-x86_64 > /dev/null; then
  disk=$scratch/disk.img copy=$scratch/copy.img target=$scratch/target.img
  head -c 32M /dev/urandom > "$disk"
  truncate -s 32M "$target"
  step "identify, QEMU" identify --backend qtest --image "$disk" --human-readable
  step "nvme_copy, QEMU: the namespace to a file" \
    nvme_copy --backend qtest --image "$disk" --to "$copy"
  same "the copy has the sha256 of QEMU's image" "$disk" "$copy"
  step "nvme_copy, QEMU: the file to another namespace" \
    nvme_copy --backend qtest --image "$target" --from "$copy"
  same "QEMU's other image has the sha256 of the file" "$copy" "$target"
  step "nvme_perf, QEMU: random reads and writes, each byte checked" \
    nvme_perf --backend qtest --image "$target" --rw randrw --time 2 --verify
  step "edu: QEMU's educational device, by registers described in a few lines" edu
else
  note skipped "everything on QEMU's NVMe controller: qemu-system-x86_64 is not installed"
fi

# play [OPTIONS]: another process simulates the FPGA from here on, or none with "gone".
bar=$scratch/bar.mem
play() {
  if [[ -n $engine ]]; then kill "$engine" 2> /dev/null || true; wait "$engine" || true; fi
  engine=
  if [[ ${1-} == gone ]]; then return 0; fi
  printf '\n$ fpga_queue engine --memory %s %s &\n' "$bar" "$*"
  "$programs/fpga_queue" engine --memory "$bar" --time "$limit" "$@" &
  engine=$!
  local try
  for try in {1..50}; do
    if "$programs/fpga_queue" host --memory "$bar" --show > /dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  echo "no engine after $try tries"
}
play
step "fpga_queue: rings behind a mapped BAR, the FPGA played by a process" \
  fpga_queue host --memory "$bar" --time 2 --verify
if command -v qemu-system-x86_64 > /dev/null; then
  step "fpga_queue, QEMU: the same with registers and doorbells of QEMU's ivshmem" \
    fpga_queue host --backend qtest --memory "$bar" --time 1 --verify
fi

say "Mistakes and broken devices: a sentence each, exit status 1, no hang"
refused "a device that does not exist" "no such function" \
  nvme_perf --backend simulated --device 0000:01:00.0
refused "an image that is missing" "no such file" \
  nvme_perf --backend simulated --image "$scratch/missing.img"
if [[ -e /sys/bus/pci/devices ]]; then
  refused "a function that does not exist" "no such PCI function" bind 0000:ff:1f.7 --to vfio-pci
fi
head -c 100 /dev/zero > "$scratch/small.img"
refused "an image that is too small" "too small" \
  nvme_perf --backend simulated --image "$scratch/small.img"
if command -v qemu-system-x86_64 > /dev/null; then
  refused "a device that QEMU does not have" "no such function" \
    nvme_perf --backend qtest --image "$disk" --device 0000:00:1e.0
  refused "an image that is missing, QEMU" "does not exist" \
    nvme_perf --backend qtest --image "$scratch/missing.img"
  refused "an image that is too small, QEMU" "too small" \
    nvme_perf --backend qtest --image "$scratch/small.img"
fi
refused "a device that never becomes ready" "did not become ready" \
  nvme_perf --backend simulated --fault never-ready
refused "a completion with an unknown command id" "not in flight" \
  nvme_perf --backend simulated --fault unknown-id
refused "a completion whose phase never flips" "not answered in time" \
  nvme_perf --backend simulated --fault phase --timeout 1
refused "a device that is pulled out" "gone" \
  nvme_perf --backend simulated --fault removed

play --fault unknown-id --after 1000
refused "an FPGA that completes a command that was not sent" "not in flight" \
  fpga_queue host --memory "$bar" --time 5
play gone
refused "an FPGA that left the bus" "read as ones" fpga_queue host --memory "$bar"
play --fault stops --after 1000
refused "an FPGA that stands still" "heartbeat does not move" \
  fpga_queue host --memory "$bar" --time 5 --timeout 1
play gone

say "Summary"
printf '%s\n' "${summary[@]}"
exit "$failed"
