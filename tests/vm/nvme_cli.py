#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""nvme-cli in a stock Linux guest on controllers that examples/nvme_target serves over vfio-user: one with
managed namespaces and metadata, one whose namespace is zoned. One boot; every command's result is checked.
Usage: nvme_cli.py KEEP NVME_TARGET"""
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import vm
from metadata import nvme_cli

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))
import newer_qemu  # noqa: E402

SCRIPT = r"""
ok() { # NAME COMMAND...: succeeds
  name=$1; shift
  if timeout 60 "$@" > /tmp/out 2>&1; then echo "PB $name: ok"; else echo "PB $name: $(tail -1 /tmp/out)"; fi
}
has() { # NAME WORDS COMMAND...: succeeds and prints the words
  name=$1; words=$2; shift 2
  if ! timeout 60 "$@" > /tmp/out 2>&1; then echo "PB $name: $(tail -1 /tmp/out)"
  elif grep -qi -- "$words" /tmp/out; then echo "PB $name: ok"; else echo "PB $name: it printed $(head -c 300 /tmp/out | tr '\n' '|')"; fi
}
no() { # NAME WORDS COMMAND...: fails with these words
  name=$1; words=$2; shift 2
  if timeout 60 "$@" > /tmp/out 2>&1; then echo "PB $name: it succeeded"
  elif grep -qi -- "$words" /tmp/out; then echo "PB $name: ok"; else echo "PB $name: $(tail -1 /tmp/out)"; fi
}
is() { if cmp "$2" "$3" > /tmp/cmp 2>&1; then echo "PB $1: ok"; else echo "PB $1: $(cat /tmp/cmp)"; fi; }
wait_for [ -b /dev/nvme0n3 ]
wait_for [ -c /dev/nvme1 ]
A=; Z=
for c in /sys/class/nvme/nvme*; do
  case $(cat $c/serial) in VFU-CLI*) A=/dev/$(basename $c);; VFU-ZNS*) Z=/dev/$(basename $c);; esac
done
echo "PB devices: $A $Z"

# Identify and log pages.
has id-ctrl "VFU-CLI" nvme id-ctrl $A
has id-ctrl-oncs "oncs *: 0x[0-9a-f]*ff" nvme id-ctrl $A
ok id-ns nvme id-ns ${A}n1
has id-ns-size "nsze *: 0x" nvme id-ns ${A}n1
has list-ns "0x3" nvme list-ns $A
has list-ns-all "0x3" nvme list-ns $A -a
has list-ctrl "0\]:0" nvme list-ctrl $A
has ns-descs "eui64" nvme ns-descs ${A}n1
has smart-log "temperature" nvme smart-log $A
ok error-log nvme error-log $A
has effects-log "sanitize" nvme effects-log $A
has fw-log "afi" nvme fw-log $A
ok self-test-log nvme self-test-log $A
ok sanitize-log nvme sanitize-log $A
ok changed-ns-list nvme changed-ns-list-log $A
ok supported-logs nvme supported-log-pages $A
ok show-regs nvme show-regs $A

# Features.
for f in 1 2 4 5 6 7 8 9 0xa 0xb 0xe 0xf 0x16; do
  nvme get-feature $A -f $f > /tmp/out 2>&1 || echo "PB get-feature-$f: $(tail -1 /tmp/out)"
done
ok get-features true
ok set-feature nvme set-feature $A -f 4 --value=0x151
has set-feature-read "151" nvme get-feature $A -f 4
ok set-feature-back nvme set-feature $A -f 4 --value=0x157
no set-feature-save "." nvme set-feature $A -f 4 --value=0x151 --save

# Blocks.
head -c 4096 /dev/urandom > /tmp/a
head -c 4096 /dev/zero > /tmp/zero
ok write nvme write ${A}n1 -s 8 -c 7 -z 4096 -d /tmp/a
ok read nvme read ${A}n1 -s 8 -c 7 -z 4096 -d /tmp/b
is read-same /tmp/a /tmp/b
ok compare nvme compare ${A}n1 -s 8 -c 7 -z 4096 -d /tmp/a
no compare-other "compare" nvme compare ${A}n1 -s 8 -c 7 -z 4096 -d /tmp/zero
ok verify nvme verify ${A}n1 -s 8 -c 7
ok copy nvme copy ${A}n1 --sdlba=64 --slbs=8 --blocks=7
ok copy-read nvme read ${A}n1 -s 64 -c 7 -z 4096 -d /tmp/b
is copy-same /tmp/a /tmp/b
ok write-zeroes nvme write-zeroes ${A}n1 -s 8 -c 7
ok zeroes-read nvme read ${A}n1 -s 8 -c 7 -z 4096 -d /tmp/b
is zeroes-same /tmp/zero /tmp/b
ok dsm nvme dsm ${A}n1 -d -s 64 -b 8
ok write-uncor nvme write-uncor ${A}n1 -s 8 -c 0
no uncor-read "unrecovered" nvme read ${A}n1 -s 8 -c 0 -z 512 -d /tmp/b
ok uncor-write nvme write ${A}n1 -s 8 -c 0 -z 512 -d /tmp/a
ok flush nvme flush ${A}n1

# Reservations, by a host identifier of 64 bits.
printf '\1\2\3\4\5\6\7\10' > /tmp/hostid
ok resv-host nvme set-feature $A -f 0x81 -l 8 -d /tmp/hostid
ok resv-register nvme resv-register ${A}n1 --nrkey=5 --rrega=0
ok resv-acquire nvme resv-acquire ${A}n1 --crkey=5 --rtype=1 --racqa=0
has resv-report "rkey" nvme resv-report ${A}n1 -d 4096
no resv-wrong-key "conflict" nvme resv-release ${A}n1 --crkey=6 --rtype=1 --rrela=0
ok resv-release nvme resv-release ${A}n1 --crkey=5 --rtype=1 --rrela=0
ok resv-remove nvme resv-register ${A}n1 --crkey=5 --rrega=1
has resv-none "regctl *: 0" nvme resv-report ${A}n1 -d 4096

# Self-test and firmware.
ok self-test nvme device-self-test $A -n 1 -s 1
sleep 1
has self-test-passed "Operation Result *: 0" nvme self-test-log $A
{ printf 'FW-NEW-2'; head -c 8184 /dev/urandom; } > /tmp/fw
ok fw-download nvme fw-download $A -f /tmp/fw -x 4096
ok fw-commit nvme fw-commit $A -s 2 -a 1
has fw-old "1.0" nvme id-ctrl $A
ok fw-reset nvme reset $A
wait_for nvme id-ctrl $A > /dev/null 2>&1
ok fw-activate nvme fw-commit $A -s 2 -a 2
ok reset nvme reset $A
wait_for nvme id-ctrl $A > /dev/null 2>&1
has fw-new "FW-NEW-2" nvme id-ctrl $A
no fw-bad "." nvme fw-commit $A -s 7 -a 2

# Namespaces.
ok detach-ns nvme detach-ns $A -n 2 -c 0
has list-ns-attached "0x3" nvme list-ns $A
ok delete-ns nvme delete-ns $A -n 2
has create-ns "nsid:2" nvme create-ns $A --nsze=8192 --ncap=8192 --flbas=0 --dps=0
ok attach-ns nvme attach-ns $A -n 2 -c 0
no attach-twice "attached" nvme attach-ns $A -n 2 -c 0
ok ns-rescan nvme ns-rescan $A
wait_for [ -b ${A}n2 ]
echo "PB new-size: $(cat /sys/block/$(basename $A)n2/size)"
no create-too-large "capacity" nvme create-ns $A --nsze=80000000 --ncap=80000000 --flbas=0 --dps=0

# Format with metadata beside the blocks and protection of type 1, which Linux then makes and checks itself.
ok format-pi nvme format ${A}n1 --lbaf=1 --ms=0 --pi=1 --force
sleep 1
has format-pi-id "lbaf *1 .*in use" nvme id-ns ${A}n1
has format-pi-dps "dps *: 0x1" nvme id-ns ${A}n1
head -c 65536 /dev/urandom > /tmp/p
dd if=/tmp/p of=${A}n1 bs=4096 conv=fsync 2> /dev/null && echo "PB pi-write: ok"
echo 3 > /proc/sys/vm/drop_caches
dd if=${A}n1 of=/tmp/q bs=4096 count=16 2> /dev/null
is pi-read /tmp/p /tmp/q
no format-none "." nvme format ${A}n1 --lbaf=12 --force
ok format-back nvme format ${A}n1 --lbaf=0 --force
sleep 1
has format-back-id "lbaf *0 .*in use" nvme id-ns ${A}n1

# Sanitize erases all of them.
ok before-sanitize nvme write ${A}n3 -s 0 -c 7 -z 4096 -d /tmp/a
ok sanitize nvme sanitize $A -a 2
for i in 1 2 3 4 5 6 7 8 9 10; do nvme sanitize-log $A > /tmp/out 2>&1; grep -q "65535" /tmp/out && break; sleep 1; done
has sanitized "0x1" nvme sanitize-log $A
ok after-sanitize nvme read ${A}n3 -s 0 -c 7 -z 4096 -d /tmp/b
is sanitize-same /tmp/zero /tmp/b

# Zones.
N=${Z}n1
echo "PB zoned: $(cat /sys/block/$(basename $N)/queue/zoned) $(cat /sys/block/$(basename $N)/queue/chunk_sectors)"
ok zns-id-ctrl nvme zns id-ctrl $Z
has zns-id-ns "0x800" nvme zns id-ns ${Z} -n 1
has zns-report "nr_zones: 32" nvme zns report-zones ${Z} -n 1
ok zns-open nvme zns open-zone ${Z} -n 1 -s 0x800
has zns-opened "EXP_OPENED" nvme zns report-zones ${Z} -n 1 -d 2 -v
has zns-append "LBA 800" nvme zns zone-append ${N} -s 0x800 -z 4096 -d /tmp/a
has zns-append-2 "LBA 808" nvme zns zone-append ${N} -s 0x800 -z 4096 -d /tmp/a
ok zns-close nvme zns close-zone ${Z} -n 1 -s 0x800
has zns-closed "CLOSED" nvme zns report-zones ${Z} -n 1 -d 2 -v
ok zns-finish nvme zns finish-zone ${Z} -n 1 -s 0x800
has zns-full "FULL" nvme zns report-zones ${Z} -n 1 -d 2 -v
no zns-write-full "full" nvme zns zone-append ${N} -s 0x800 -z 4096 -d /tmp/a
ok zns-reset nvme zns reset-zone ${Z} -n 1 -s 0x800
has zns-mgmt-send "" nvme zns zone-mgmt-send ${Z} -n 1 -s 0x1000 -z 3
ok zns-reset-all nvme zns reset-zone ${Z} -n 1 -a
ok zns-changed nvme zns changed-zone-list ${Z} -n 1
ok zns-flush true
# Linux's own writes and reads of a zoned device.
ok zns-write nvme write $N -s 0 -c 7 -z 4096 -d /tmp/a
dd if=$N of=/tmp/b bs=4096 count=1 2> /dev/null
is zns-read /tmp/a /tmp/b
no zns-write-again "zone" nvme write $N -s 0 -c 7 -z 4096 -d /tmp/a

# A reset of the subsystem leaves the controller disabled; a reset brings it back.
ok subsystem-reset nvme subsystem-reset $A
sleep 1
echo 1 > /sys/class/nvme/$(basename $A)/reset_controller
wait_for nvme id-ctrl $A > /dev/null 2>&1
ok subsystem-back nvme id-ctrl $A
ok subsystem-read nvme read ${A}n3 -s 0 -c 7 -z 4096 -d /tmp/b
dmesg | grep -i "nvme" | grep -i "timeout\|removing\|disabl\|unknown" | sed 's/^/PB-ERROR /'
"""


def serve(program, path, *arguments):
    server = subprocess.Popen([program, "--socket", str(path), *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True)
    for _ in range(400):
        if path.exists():
            break
        time.sleep(0.05)
    return server


def main():
    keep, program = sys.argv[1:3]
    qemu = newer_qemu.main("qemu-system-x86_64", 11)
    root, files = vm.kernel(), nvme_cli()
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        servers = [serve(program, work / "a.sock", "--disk", "mem:48M", "--managed", "--namespaces", "3", "--metadata", "8",
                         "--queues", "2", "--serial", "VFU-CLI", "--verbose"),
                   serve(program, work / "z.sock", "--disk", "mem:32M", "--zone-size", "1M", "--queues", "2",
                         "--serial", "VFU-ZNS", "--verbose")]
        try:
            devices = []
            for name in ("a", "z"):
                devices += ["-device", '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"%s/%s.sock"}}'
                            % (work, name)]
            guest = vm.Guest(work, root, SCRIPT, [],
                             ["-machine", "q35,memory-backend=m", "-object",
                              "memory-backend-memfd,id=m,size=768M,share=on", *devices],
                             "no_timer_check iomem=relaxed", files=files)
            guest.command[0] = str(qemu)
            lines = guest.run(500)
        finally:
            said = []
            for server in servers:
                server.terminate()
                said.append(server.communicate(timeout=60)[0])
        got = vm.results(lines)
        report.guest("nvme-cli", lines)
        report.check("the new namespace has its size", got.get("new-size") == "8192", got.get("new-size"))
        report.check("Linux takes the namespace for host-managed zones of 2048 blocks",
                     got.get("zoned") == "host-managed 2048", got.get("zoned"))
        names = re.findall(r"^(?:ok|has|no|is) ([\w-]+) ", SCRIPT, re.M)
        for name in names:
            report.check(name, got.get(name) == "ok", got.get(name))
        for name, text in got.items():
            if name.startswith("get-feature-"):
                report.check(name, False, text)
        report.check("both servers end cleanly", all(server.returncode == 0 for server in servers), said)
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'nvme_cli')}")
            print("\n".join(lines[-40:]))
            print("\n".join(said)[-1500:])
    report.end()


main()
