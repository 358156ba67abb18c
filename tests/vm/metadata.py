#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Metadata and protection information of our driver over vfio against Linux on one disk: nvme-cli formats the
namespaces, Linux writes them and we read, then we write and Linux reads. Where Linux keeps the tuples in memory
of its own it makes and checks them itself; QEMU checks all. Usage: metadata.py KEEP NVME_COPY"""
import hashlib
import re
import shutil
import sys
import tempfile
from pathlib import Path

import vm
from debian import run, unpacked

# The blocks of each namespace, and its format: index, bytes, inline, type, tuple first.
BLOCKS = 56
FORMATS = {1: (1, 8, 0, 1, 0), 2: (1, 8, 1, 1, 0), 3: (1, 8, 0, 2, 0), 4: (1, 8, 1, 3, 0), 5: (3, 64, 1, 0, 0),
           6: (3, 64, 0, 1, 0), 7: (1, 8, 0, 0, 0)}

SCRIPT = r"""
NVME=0000:00:04.0
DISK="--backend vfio --device $NVME"
same() { # NAME FILE FILE
  if cmp $2 $3 > /tmp/cmp 2>&1; then echo "PB $1: ok"; else echo "PB $1: $(cat /tmp/cmp)"; fi
}
blocks() { dd bs=$2 skip=$3 count=$4 < $1 2> /dev/null; } # FILE BYTES FIRST COUNT
inline() { # DATA METADATA FIRST: seven blocks of 512 and 64 bytes in turn
  for i in 0 1 2 3 4 5 6; do blocks $1 512 $(($3 + i)) 1; blocks $2 64 $(($3 + i)) 1; done
}
wait_for [ -b /dev/nvme0n7 ]
format() { nvme format /dev/nvme0n$1 --lbaf=$2 --ms=$3 --pi=$4 --force > /tmp/said 2>&1 || echo "PB format-$1: $(tail -1 /tmp/said)"; }
@FORMAT@
nvme ns-rescan /dev/nvme0
sleep 1
for n in 1 2 3 4 7; do
  echo "PB size-$n: $(cat /sys/block/nvme0n$n/size)"
  head -c 28672 /dev/urandom > /tmp/l$n
  dd if=/tmp/l$n of=/dev/nvme0n$n bs=3584 conv=fsync 2> /dev/null || echo "PB write-$n: failed"
done
# Formats that Linux does no block I/O on: single commands, seven blocks from LBA 7 on.
head -c 7168 /dev/urandom > /tmp/d
head -c 896 /dev/urandom > /tmp/m
inline /tmp/d /tmp/m 7 > /tmp/x
nvme io-passthru /dev/ng0n5 --opcode=1 --namespace-id=5 --cdw10=7 --cdw12=6 --data-len=4032 --write --input-file=/tmp/x > /tmp/said 2>&1 || echo "PB write-5: $(tail -1 /tmp/said)"
blocks /tmp/d 512 7 7 > /tmp/d7
blocks /tmp/m 64 7 7 > /tmp/m7
nvme write /dev/ng0n6 -s 7 -c 6 -z 3584 -y 448 -d /tmp/d7 -M /tmp/m7 --prinfo=8 --ref-tag=7 > /tmp/said 2>&1 || echo "PB write-6: $(tail -1 /tmp/said)"
sync

give $NVME vfio-pci
for n in 1 2 3 4 5 6 7; do
  nvme_copy $DISK --nsid $n --to /tmp/o$n --metadata /tmp/t$n --chunk 3584 > /tmp/said 2>&1 || echo "PB read-$n: $(tail -1 /tmp/said)"
done
for n in 1 2 3 4 7; do
  same with-$n /tmp/l$n /tmp/o$n
  rm -f /tmp/o$n
  nvme_copy $DISK --nsid $n --to /tmp/o$n > /tmp/said 2>&1 || echo "PB read-$n: $(tail -1 /tmp/said)"
  same ours-$n /tmp/l$n /tmp/o$n
  echo "PB tuples-$n: $(head -c 32 /tmp/t$n | od -An -v -tx1 | tr -d ' \n')"
done
for n in 5 6; do
  blocks /tmp/o$n 512 7 7 > /tmp/got
  same ours-$n /tmp/got /tmp/d7
done
blocks /tmp/t5 64 7 7 > /tmp/got
same metadata-5 /tmp/got /tmp/m7
blocks /tmp/t6 1 448 56 > /tmp/got
blocks /tmp/m7 1 0 56 > /tmp/want
same metadata-6 /tmp/got /tmp/want
for n in 1 2 3 4 5 6 7; do
  head -c 28672 /dev/urandom > /tmp/w$n
  more=
  if [ $n = 5 ]; then head -c 3584 /dev/urandom > /tmp/wt; more="--metadata /tmp/wt"; fi
  nvme_copy $DISK --nsid $n --from /tmp/w$n $more --chunk 3584 > /tmp/said 2>&1 || echo "PB copy-$n: $(tail -1 /tmp/said)"
  echo "PB sum-$n: $(sha256sum < /tmp/w$n | cut -d' ' -f1)"
done

give $NVME nvme
wait_for [ -b /dev/nvme0n7 ]
sleep 1
for n in 1 2 3 4 7; do
  dd if=/dev/nvme0n$n of=/tmp/r$n bs=4096 2> /dev/null || echo "PB linux-read-$n: failed"
  same linux-$n /tmp/r$n /tmp/w$n
done
inline /tmp/w5 /tmp/wt 14 > /tmp/want
nvme io-passthru /dev/ng0n5 --opcode=2 --namespace-id=5 --cdw10=14 --cdw12=6 --data-len=4032 --read --raw-binary > /tmp/got 2> /tmp/said || echo "PB linux-read-5: $(tail -1 /tmp/said)"
same linux-5 /tmp/got /tmp/want
nvme read /dev/ng0n6 -s 14 -c 6 -z 3584 -y 448 -d /tmp/got -M /tmp/got.m --prinfo=5 --ref-tag=14 > /tmp/said 2>&1 || echo "PB linux-read-6: $(tail -1 /tmp/said)"
blocks /tmp/w6 512 14 7 > /tmp/want
blocks /tmp/got 512 0 7 > /tmp/got7
same linux-6 /tmp/got7 /tmp/want
# Of type 1 another tag than the LBA is an invalid command; of type 2 the tags are compared.
if nvme read /dev/ng0n3 -s 14 -c 6 -z 3584 -y 56 -d /tmp/got -M /tmp/got.m --prinfo=1 --ref-tag=15 > /tmp/said 2>&1
then echo "PB wrong-tag: it was accepted"
else echo "PB wrong-tag: $(tail -1 /tmp/said)"; fi
"""


def nvme_cli():
    """nvme-cli with the loader and the libraries of its own package, for /cli in the guest."""
    suite = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.M)
    root = unpacked(f"{suite.group(1)}-nvme-cli", suite.group(1), ["nvme-cli"])
    loader = next(root.glob("lib/*/ld-linux-x86-64.so.2"), None) or next(root.glob("usr/lib/*/ld-linux-x86-64.so.2"))
    folders = ":".join(str(root / f) for f in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"))
    program = root / "usr/sbin/nvme"
    listed = run(str(loader), "--library-path", folders, "--list", str(program))
    files = [("cli", 0o40755, b""), ("cli/ld.so", 0o100755, loader.read_bytes()),
             ("cli/nvme", 0o100755, program.read_bytes()),
             ("bin/nvme", 0o100755, b'#!/bin/busybox sh\nexec /cli/ld.so --library-path /cli /cli/nvme "$@"\n')]
    for name, path in re.findall(r"(\S+) => (/\S+) \(0x", listed):
        files.append((f"cli/{name}", 0o100644, Path(path).read_bytes()))
    return files


def main():
    keep, nvme_copy = sys.argv[1:3]
    if shutil.which("qemu-system-x86_64") is None:
        vm.skip("qemu-system-x86_64 is not installed")
    root, files = vm.kernel(), nvme_cli()
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        arguments = ["-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on",
                     "-device", "nvme,serial=phasebit,id=c0,addr=04.0"]
        for n, (_, size, _, _, _) in FORMATS.items():
            (work / f"{n}.img").write_bytes(bytes((BLOCKS * (512 + size) + 511) // 512 * 512))
            arguments += ["-drive", f"if=none,id=d{n},file={work}/{n}.img,format=raw",
                          "-device", f"nvme-ns,bus=c0,drive=d{n},nsid={n}"]
        formats = "\n".join(f"format {n} {index} {inline} {pi}" for n, (index, _, inline, pi, _) in FORMATS.items())
        guest = vm.Guest(work, root, SCRIPT.replace("@FORMAT@", formats), [nvme_copy], arguments, "intel_iommu=on",
                         files=files)
        lines = guest.run(400)
        got = vm.results(lines)
        report.guest("metadata", lines)
        for n, (_, size, inline, pi, _) in FORMATS.items():
            for step in ("format", "write", "read", "copy", "linux-read"):
                report.check(f"{step} of namespace {n}", f"{step}-{n}" not in got, got.get(f"{step}-{n}"))
            report.check(f"we read what Linux wrote, namespace {n}", got.get(f"ours-{n}") == "ok", got.get(f"ours-{n}"))
            report.check(f"Linux reads what we wrote, namespace {n}", got.get(f"linux-{n}") == "ok",
                         got.get(f"linux-{n}"))
            image = (work / f"{n}.img").read_bytes()
            written = hashlib.sha256(image[:BLOCKS * 512]).hexdigest()
            report.check(f"what we wrote is in the image of namespace {n}", written == got.get(f"sum-{n}"), written)
            if size == 8:
                report.check(f"the same with metadata, namespace {n}", got.get(f"with-{n}") == "ok", got.get(f"with-{n}"))
                report.check(f"Linux has the blocks of namespace {n}", got.get(f"size-{n}") == str(BLOCKS),
                             got.get(f"size-{n}"))
            else:
                report.check(f"the metadata of namespace {n}", got.get(f"metadata-{n}") == "ok", got.get(f"metadata-{n}"))
        # The tuples that Linux made: the reference tag is the LBA.
        for n in (1, 2, 3):
            tuples = bytes.fromhex(got.get(f"tuples-{n}", ""))
            tags = [int.from_bytes(tuples[8 * i + 4:8 * i + 8], "big") for i in range(4)]
            report.check(f"reference tags of namespace {n}", len(tuples) == 32 and tags == [0, 1, 2, 3], tuples.hex())
        report.check("a wrong reference tag is noticed", "Reference Tag" in got.get("wrong-tag", ""), got.get("wrong-tag"))
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'metadata')}")
            print("\n".join(lines[-60:]))
    report.end()


if __name__ == "__main__":
    main()
