#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Builds the firmware for a machine without an operating system, prints its size and boots it in QEMU with an
# NVMe disk. Passes when the firmware has written, read and compared blocks, its image is not larger than the limit below, and
# no function of the library has a frame above 1 KiB.
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
    flash_limit=68000 architecture=aarch64 prefix=aarch64-linux-gnu- qemu=(qemu-system-aarch64 -M virt -cpu cortex-a57)
    options+=(-mstrict-align -mno-outline-atomics)
    if [[ $machine == aarch64-low ]]; then
      qemu[2]=virt,highmem=off
      options+=(-DFIRMWARE_LOW_ECAM)
    fi ;;
  riscv64)
    flash_limit=56000 architecture=riscv64 prefix=riscv64-linux-gnu- qemu=(qemu-system-riscv64 -M virt -bios none)
    options+=(-mcmodel=medany -mstrict-align) ;;
  *) echo "there is no machine $machine" >&2; exit 2 ;;
esac
for tool in "${prefix}g++" "${qemu[0]}"; do
  command -v "$tool" > /dev/null || { echo "skipped: $tool is not installed"; exit 77; }
done

flags=(-std=c++20 -Os -g1 -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-pic -fno-pie
  -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables -ffunction-sections -fdata-sections
  -fno-tree-loop-distribute-patterns -Wall -Wextra "${options[@]}" -I"$here/../../include")

# One queue pair, submit and poll, without what runs when a command is refused, the queue ends, or a PRP list is made.
"${prefix}g++" "${flags[@]}" -c "$here/queue_size.cpp" -o "$work/queue_size.o"
read -r hot cold < <("${prefix}size" -A "$work/queue_size.o" |
  awk '/^\.text\.(submit_one|poll_all) /{hot += $2; next} /^\.text/{cold += $2} END {print hot, cold}')
echo "submit and poll $hot bytes (limit 1536), out of line $cold bytes (limit 1536)"
if ((hot > 1536 || cold > 1536)); then echo "a queue pair is too large"; exit 1; fi

"${prefix}g++" "${flags[@]}" -fstack-usage -nostdlib -static -no-pie -Wl,--gc-sections \
  -Wl,--no-warn-rwx-segments -Wl,--build-id=none -Wl,-T,"$here/link_$architecture.ld" \
  "$here/start_$architecture.S" "$here/nvme_host.cpp" "$here/memory_functions.cpp" -o "$work/firmware.elf"
"${prefix}size" "$work/firmware.elf"
# Code, constants and initialized data: what lies in flash. The firmware's own objects live in the frame of run().
read -r _ flash < <("${prefix}size" -A "$work/firmware.elf" |
  awk '/^\.(text|rodata|data) /{sum += $2} END {print "flash", sum}')
frame=$(awk -F'\t' '$1 !~ /nvme_host\.cpp/ && $2 > most {most = $2; who = $1} END {print most, who}' "$work"/*.su)
echo "flash $flash bytes (limit $flash_limit); largest frame of the library ${frame%% *} bytes (limit 1024)"
if ((flash > flash_limit)); then echo "the image is too large"; exit 1; fi
if ((${frame%% *} > 1024)); then echo "a frame is too large: ${frame#* }"; exit 1; fi

truncate -s 8M "$work/disk.img"
status=0
timeout 60 "${qemu[@]}" -m 256M -nographic -monitor none -serial "file:$work/console.txt" -net none \
  -kernel "$work/firmware.elf" -drive "if=none,id=d0,file=$work/disk.img,format=raw" \
  -device pcie-root-port,id=rp0 -device nvme,serial=firmware,drive=d0,bus=rp0 < /dev/null || status=$?
cat "$work/console.txt"
if ((status != 0)); then echo "QEMU ended with status $status"; exit 1; fi
grep -q '^passed' "$work/console.txt"
