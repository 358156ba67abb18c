#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""`fpga_queue`, its FPGA played by a process, and `edu`. Usage: check_fpga.py GROUP FOLDER_OF_PROGRAMS"""
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from check import LIMIT_S, bad, good, need_qemu, run


@contextlib.contextmanager
def engine(programs, memory, *options):
    """Plays the FPGA until the end of the block."""
    command = [programs / "fpga_queue", "engine", "--memory", memory, "--time", str(LIMIT_S), *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        assert "played by process" in first, first + process.stderr.read()
        try:
            yield process
        finally:
            process.terminate()


def host(memory, *options):
    return ["fpga_queue", "host", "--memory", memory, *options]


def rings(programs, folder):
    memory = folder / "bar.mem"
    with engine(programs, memory, "--size", "4M") as process:
        assert memory.stat().st_size == 4 << 20
        for what in ("fill", "copy", "checksum", "mixed"):
            r = json.loads(good(programs, *host(memory, "--op", what, "--count", 3000, "--verify", "--json")))
            assert r["commands"] == r["verified"] == 3000, r
            latency = [r["latency_ns"][k] for k in ("min", "p50", "p90", "p99", "p99.9", "max")]
            assert latency == sorted(latency) and latency[0] > 0, r
            assert "played by a process" in r["about"], r
        for shape in (("--qd", 1, "--bs", 512), ("--qd", 1023, "--bs", 512), ("--qd", 1, "--bs", "1M")):
            r = json.loads(good(programs, *host(memory, "--count", 2000 if shape[3] == 512 else 20, "--verify",
                                                "--json", *shape)))
            assert r["verified"] == r["commands"] > 0, r
        text = good(programs, *host(memory, "--time", "0.3", "--verify"))
        for part in ("block engine 1.0", "played by a process", "IOPS", "p99.9", "####", "each byte"):
            assert part in text, text
        shown = good(programs, *host(memory, "--show", "--bar-size", "4M"))
        assert "3.99 MiB of DRAM at 0x800000000" in shown and "IOPS" not in shown, shown
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
        assert re.search(r"^engine: \d{5,} commands$", process.stdout.read(), re.M)
    # Its registers show that it has ended; another can start.
    bad(programs, "the engine is gone", *host(memory))
    with engine(programs, memory, "--size", "4M"):
        good(programs, *host(memory, "--count", 10, "--verify"))


def faults(programs, folder):
    memory = folder / "bar.mem"
    expected = {
        "wrong-design": "another design; its identification",
        "wrong-version": "another major version than this driver; its version .value 0x2",
        "not-ready": "did not become ready",
        "silent": "not answered in time, though the engine's heartbeat goes on",
        "unknown-id": "completed a command that is not in flight",
        "phase": "not answered in time, though the engine's heartbeat goes on",
        "stops": "stands still: its heartbeat does not move",
        "gone": "gone: its registers read as ones",
    }
    for fault, pattern in expected.items():
        for after in (0, 300) if fault in ("unknown-id", "gone") else (300,):
            with engine(programs, memory, "--fault", fault, "--after", after):
                bad(programs, pattern, *host(memory, "--time", LIMIT_S / 2, "--timeout", 1))
    # Without a word, in the middle of the work.
    with engine(programs, memory) as process:
        line = host(memory, "--time", LIMIT_S / 2, "--timeout", 1)
        command = [programs / line[0], *map(str, line[1:])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
            done = 0x40
            while int.from_bytes(memory.read_bytes()[done:done + 4], "little") < 1000:
                assert driver.poll() is None
            process.kill()
            out, err = driver.communicate(timeout=LIMIT_S)
        assert driver.returncode == 1 and out == "" and "stands still" in err, out + err


def mistakes(programs, folder):
    memory = folder / "bar.mem"
    bad(programs, "needs a file: --memory FILE", "fpga_queue", "host")
    bad(programs, "requires a function", "fpga_queue", "host", "--backend", "mmio")
    bad(programs, "nowhere.mem: .*cannot be opened", *host(folder / "nowhere.mem"))
    memory.write_bytes(bytes(100))
    bad(programs, "the BAR is too small", *host(memory))
    bad(programs, "the number of bytes to map", *host("/dev/zero"))
    bad(programs, "shorter than what is to be mapped", *host(memory, "--bar-size", "1M"))
    bad(programs, "not as long as --size", "fpga_queue", "engine", "--memory", memory)
    memory.write_bytes(bytes(1 << 20))
    bad(programs, "no design behind the BAR", *host(memory))
    with engine(programs, memory, "--size", "1M"):
        bad(programs, "another process plays the FPGA", "fpga_queue", "engine", "--memory", memory, "--size", "1M")
        bad(programs, "more than the engine does in one command", *host(memory, "--bs", "2M"))
        bad(programs, "than the engine's DRAM has free", *host(memory, "--bs", "64k"))
        bad(programs, "multiple of 512", *host(memory, "--bs", 1000))
    bad(programs, "power of two", "fpga_queue", "engine", "--memory", memory, "--size", 100_000)
    bad(programs, "subcommand", "fpga_queue", status=2)
    bad(programs, "--memory", "fpga_queue", "engine", status=2)
    bad(programs, "--qd", *host(memory, "--qd", 1024), status=2)
    bad(programs, "--fault", "fpga_queue", "engine", "--memory", memory, "--fault", "mood", status=2)


def qemu(programs, folder):
    need_qemu()
    memory = folder / "bar,mem"  # a comma is of QEMU's grammar
    with engine(programs, memory):
        r = json.loads(good(programs, *host(memory, "--backend", "qtest", "--count", 2000, "--verify", "--json")))
        assert r["commands"] == r["verified"] == 2000 and "ivshmem" in r["about"], r
    bad(programs, "the engine is gone", *host(memory, "--backend", "qtest"))


def edu(programs, folder):
    need_qemu()
    text = good(programs, "edu", "--number", 20, "--rounds", 3)
    for part in ("edu 1.0", "20! = 2192834560 modulo 2^32", "3 x 4095 bytes", "each byte is right", "two came, each with its cause"):
        assert part in text, text
    assert "DMA" not in good(programs, "edu", "--no-dma")
    # What is allocated lies at 1 MiB and above.
    status, _, err = run(programs, "edu", "--dma-mask", 0xfffff)
    assert status == 1 and "beyond what the device's DMA engine reaches" in err, err
    bad(programs, "requires a function", "edu", "--backend", "vfio")
    bad(programs, "0000:ff:1f.7: there is no such PCI function", "edu", "--backend", "mmio", "--device", "0000:ff:1f.7")
    bad(programs, "--dma-mask", "edu", "--dma-mask", 1 << 40, status=2)


GROUPS = {"rings": rings, "faults": faults, "mistakes": mistakes, "qemu": qemu, "edu": edu}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="phasebit-fpga-") as scratch:
        GROUPS[sys.argv[1]](Path(sys.argv[2]).resolve(), Path(scratch))
