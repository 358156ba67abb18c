#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Builds the firmware for a machine without an operating system, prints its size and boots it in QEMU with an
# NVMe disk. Passes when the firmware has written, read and compared blocks.
# Usage: examples/firmware/run.sh aarch64|aarch64-low|riscv64 [WORK]
#   aarch64-low: configuration space below 4 GiB (-M virt,highmem=off)
set -euo pipefail
machine=${1:?usage: run.sh aarch64|aarch64-low|riscv64 [WORK]}
here=$(cd "$(dirname "$0")" && pwd)
work=${2:-$here/../../build/firmware/$machine}
mkdir -p "$work"

options=()
case $machine in
  aarch64 | aarch64-low)
    architecture=aarch64 prefix=aarch64-linux-gnu- qemu=(qemu-system-aarch64 -M virt -cpu cortex-a57)
    options+=(-mstrict-align -mno-outline-atomics)
    if [[ $machine == aarch64-low ]]; then
      qemu[2]=virt,highmem=off
      options+=(-DFIRMWARE_LOW_ECAM)
    fi ;;
  riscv64)
    architecture=riscv64 prefix=riscv64-linux-gnu- qemu=(qemu-system-riscv64 -M virt -bios none)
    options+=(-mcmodel=medany -mstrict-align) ;;
  *) echo "there is no machine $machine" >&2; exit 2 ;;
esac
for tool in "${prefix}g++" "${qemu[0]}"; do
  command -v "$tool" > /dev/null || { echo "skipped: $tool is not installed"; exit 77; }
done

"${prefix}g++" -std=c++20 -Os -g1 -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics \
  -fno-pic -fno-pie -fno-stack-protector -ffunction-sections -fdata-sections -fno-tree-loop-distribute-patterns \
  -Wall -Wextra "${options[@]}" -I"$here/../../include" -nostdlib -static -no-pie -Wl,--gc-sections \
  -Wl,--no-warn-rwx-segments -Wl,--build-id=none -Wl,-T,"$here/link_$architecture.ld" \
  "$here/start_$architecture.S" "$here/nvme_host.cpp" "$here/memory_functions.cpp" -o "$work/firmware.elf"
"${prefix}size" "$work/firmware.elf"

truncate -s 8M "$work/disk.img"
status=0
timeout 60 "${qemu[@]}" -m 256M -nographic -monitor none -serial "file:$work/console.txt" -net none \
  -kernel "$work/firmware.elf" -drive "if=none,id=d0,file=$work/disk.img,format=raw" \
  -device pcie-root-port,id=rp0 -device nvme,serial=firmware,drive=d0,bus=rp0 < /dev/null || status=$?
cat "$work/console.txt"
if ((status != 0)); then echo "QEMU ended with status $status"; exit 1; fi
grep -q '^passed' "$work/console.txt"
