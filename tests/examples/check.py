#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Runs the examples as a user does. Usage: check.py GROUP FOLDER_OF_PROGRAMS"""
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 60  # none of them takes longer, whatever goes wrong


def run(programs, *line):
    """The status, what was printed, what was complained about."""
    command = [programs / line[0], *map(str, line[1:])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    return done.returncode, done.stdout, done.stderr


def good(programs, *line):
    status, out, err = run(programs, *line)
    assert status == 0 and err == "", f"{line}: status {status}\n{out}{err}"
    return out


def bad(programs, pattern, *line, status=1):
    """Ends with this status and one sentence that matches the pattern, and nothing else."""
    got, out, err = run(programs, *line)
    assert got == status, f"{line}: status {got}, not {status}\n{out}{err}"
    assert err.count("\n") == 1 and err.startswith(line[0] + ": "), f"{line}: no one sentence:\n{err}"
    assert re.search(pattern, err), f"{line}: does not match {pattern!r}:\n{err}"
    assert out == "", f"{line}: printed a result all the same:\n{out}"


def perf(programs, *line):
    return json.loads(good(programs, "nvme_perf", "--json", *line))


def image(folder, name, size):
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hello(programs, folder):
    assert good(programs, "hello_nvme") == "block 7 contains: hello, block!\n"
    bad(programs, "beyond the end of the namespace", "hello_nvme", 10**9)
    bad(programs, "x7: is no block number", "hello_nvme", "x7")


def perf_results(programs, folder):
    for rw in ("read", "write", "randread", "randwrite", "rw", "randrw"):
        for mode in ([], ["--single-step"]):
            r = perf(programs, "--rw", rw, "--verify", "--count", 3000, "--queues", 2, *mode)
            assert r["reads"] + r["writes"] == 6000, r
            assert (r["reads"] == 0) == rw.endswith("write"), r
            assert (r["writes"] == 0) == rw.endswith("read"), r
            assert r["verified"] > 0, r
            latency = r["latency_ns"]
            order = [latency[k] for k in ("min", "p50", "p90", "p99", "p99.9", "max")]
            assert order == sorted(order) and order[0] > 0, latency
            assert sum(b["count"] for b in r["histogram"]) == 6000, r
    r = perf(programs, "--bs", "1M", "--qd", 2, "--count", 64, "--rw", "randrw", "--verify")
    assert r["block_bytes"] == 1 << 20 and r["reads"] + r["writes"] == 64, r
    text = good(programs, "nvme_perf", "--count", 1000, "--verify")
    for part in ("simulated", "IOPS", "p99.9", "####", "verified 1000 reads"):
        assert part in text, text
    # An image in place of memory keeps what was written.
    disk = image(folder, "disk.img", 1 << 20)
    before = sha256(disk)
    perf(programs, "--image", disk, "--rw", "randwrite", "--verify", "--count", 500)
    assert sha256(disk) != before
    bad(programs, "--overwrite", "nvme_perf", "--image", disk, "--rw", "read", "--verify")
    assert run(programs, "nvme_perf", "--help")[0] == 0


def corruption(programs, folder):
    """--verify sees what changes behind the disk's back."""
    disk = image(folder, "disk.img", 1 << 20)
    command = [programs / "nvme_perf", "--image", disk, "--rw", "randread", "--verify",
               "--overwrite", "--time", str(LIMIT_S / 2)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        while p.poll() is None:
            with disk.open("r+b") as f:
                f.seek(300 * 512 + 77)
                f.write(os.urandom(1))
        out, err = p.communicate(timeout=LIMIT_S)
    assert p.returncode == 1 and out == "", f"status {p.returncode}\n{out}{err}"
    assert re.search(f"other data than was written.*{300 * 512 + 77:#x}", err), err


def mistakes(programs, folder):
    bad(programs, r"0000:01:00\.0: .*no such function", "nvme_perf", "--device", "0000:01:00.0")
    bad(programs, "nonsense: is no PCI address", "identify", "--device", "nonsense")
    # Domains behind a VMD have more than four digits.
    for program in (["identify"], ["nvme_perf"], ["nvme_copy", "--to", folder / "none.img"]):
        for backend in ("vfio", "mmio"):
            bad(programs, r"10000:e1:00\.0: .*no such", *program, "--backend", backend, "--device", "10000:e1:00.0")
            bad(programs, "is no PCI address", *program, "--backend", backend, "--device", "00000:e1:00.0")
    bad(programs, "nowhere.img: no such file", "nvme_perf", "--image", folder / "nowhere.img")
    bad(programs, "is neither a regular file", "nvme_perf", "--image", folder)
    bad(programs, "too small", "nvme_perf", "--image", image(folder, "small.img", 100))
    bad(programs, "no such namespace|no active namespace", "nvme_perf", "--nsid", 2)
    bad(programs, "block size", "nvme_perf", "--bs", 5000)
    bad(programs, "MDTS", "nvme_perf", "--bs", "2M", "--qd", 1)
    bad(programs, "1 GiB", "nvme_perf", "--bs", "2M", "--qd", 1000)
    bad(programs, "too small for so many queues", "nvme_perf", "--disk-size", "64k", "--verify")
    bad(programs, "--bs", "nvme_perf", "--bs", 3, status=2)
    bad(programs, "--qd", "nvme_perf", "--qd", 0, status=2)
    bad(programs, "--backend", "nvme_perf", "--backend", "telepathy", status=2)
    bad(programs, "--frobnicate", "nvme_perf", "--frobnicate", status=2)
    bad(programs, "required", "nvme_copy", status=2)
    bad(programs, "required", "nvme_copy", "--to", "a", "--from", "b", status=2)


def faults(programs, folder):
    expected = {
        "never-ready": "did not become ready",
        "fatal": "fatal status",
        "unknown-id": "completed a command that is not in flight",
        "lost": "not answered in time",
        "phase": "not answered in time",
        "status": "the media could not be read",
        "dma": "data .* failed|moving the data|fatal status",
        "removed": "gone",
    }
    for mode in ([], ["--single-step"]):
        for fault, pattern in expected.items():
            bad(programs, pattern, "nvme_perf", "--fault", fault, "--timeout", 1, "--time", 30,
                "--queues", 2, *mode)
    bad(programs, "gone", "nvme_copy", "--fault", "removed", "--to", folder / "half.img",
        "--chunk", "4k", "--timeout", 1)
    bad(programs, "did not become ready", "identify", "--fault", "never-ready")


def identify(programs, folder):
    text = good(programs, "identify", "--disk-size", "1M")
    for line in (r"^vid +: 0x5042$", r"^sn +: PHASEBIT0001$", r"^mn +: \S", r"^mdts +: \d+$",
                 r"^ver +: 0x20000$", r"^oncs +: 0x", r"^ps +0 : mp:", r"^nsze +: 0x800$",
                 r"^lbaf +0 : ms:0 +lbads:9 +rp:0x0 \(in use\)$"):
        assert re.search(line, text, re.M), f"{line} is not in:\n{text}"
    human = good(programs, "identify", "-H", "--disk-size", "1M")
    assert "NVMe 2.0.0" in human and "write zeroes: yes" in human and "1 MiB" in human, human
    data = json.loads(good(programs, "identify", "--json", "--disk-size", "1M"))
    assert data["controller"]["sn"] == "PHASEBIT0001", data
    assert data["namespaces"][0]["nsze"] == 2048, data
    states = data["controller"]["psds"]
    assert len(states) == data["controller"]["npss"] + 1, data
    assert {"max_power", "max_power_scale", "entry_lat", "exit_lat"} <= states[0].keys(), data
    bad(programs, "no such namespace|no active namespace", "identify", "--nsid", 9)


def copy(programs, folder, *backend):
    disk = image(folder, "disk.img", (3 << 20) + 512)
    copied = folder / "copied.img"
    good(programs, "nvme_copy", *backend, "--image", disk, "--to", copied)
    assert sha256(copied) == sha256(disk)
    other = image(folder, "other.img", disk.stat().st_size)
    good(programs, "nvme_copy", *backend, "--image", disk, "--from", other, "--chunk", "64k")
    assert sha256(other) == sha256(disk)
    # An old file of the right size is written over, any other is left alone.
    good(programs, "nvme_copy", *backend, "--image", disk, "--to", copied)
    assert sha256(copied) == sha256(disk)
    odd = image(folder, "odd.img", 1 << 20)
    before = sha256(odd), sha256(disk)
    bad(programs, "differs? in size", "nvme_copy", *backend, "--image", disk, "--to", odd)
    bad(programs, "differ in size", "nvme_copy", *backend, "--image", disk, "--from", odd)
    assert before == (sha256(odd), sha256(disk))
    bad(programs, "nowhere.img: .*no such file|does not exist", "nvme_copy", *backend, "--image",
        disk, "--from", folder / "nowhere.img")


def terminal(programs, folder):
    """A progress line is for a terminal, which keeps nothing of it."""
    ours, theirs = pty.openpty()
    subprocess.run([programs / "nvme_perf", "--time", "0.5"], stdout=subprocess.DEVNULL,
                   stderr=theirs, timeout=LIMIT_S, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "IOPS" in shown and "\n" not in shown and shown.endswith("\r\033[K"), repr(shown)


def need_qemu():
    if not shutil.which("qemu-system-x86_64"):
        print("skipped: qemu-system-x86_64 is not installed")
        sys.exit(77)


def qemu(programs, folder):
    need_qemu()
    copy(programs, folder, "--backend", "qtest")
    disk = image(folder, "perf.img", 8 << 20)
    r = perf(programs, "--backend", "qtest", "--image", disk, "--rw", "randrw", "--verify",
             "--overwrite", "--count", 2000, "--queues", 2)
    assert r["reads"] + r["writes"] == 4000 and r["verified"] > 0, r
    assert "QEMU" in r["controller"]["model"], r
    text = good(programs, "identify", "--backend", "qtest", "--image", disk)
    assert re.search(r"^sn +: phasebit$", text, re.M), text
    assert re.search(r"^nsze +: 0x4000$", text, re.M), text


def qemu_metadata(programs, folder):
    """Namespaces with metadata and protection information, whose image holds the data of all blocks and then
    the metadata of all blocks."""
    need_qemu()
    for number, form in enumerate(("ms=8,mset=0", "ms=8,mset=1", "ms=64,mset=1", "ms=8,mset=0,pi=1", "ms=8,mset=1,pi=1",
                                   "ms=8,mset=1,pi=2,pil=1", "ms=64,mset=0,pi=3", "ms=64,mset=1,pi=1,pil=1")):
        size = int(form[3:].split(",")[0])
        blocks = 300
        disk = folder / f"{number}.img"
        disk.write_bytes(bytes(blocks * (512 + size)))
        q = ["--backend", "qtest", "--image", disk, "--qemu-namespace", form]
        data = image(folder, f"data{number}", blocks * 512)
        # Chunks of seven blocks, and of eight and a remainder that is dropped.
        good(programs, "nvme_copy", *q, "--from", data, "--chunk", 3584)
        assert disk.read_bytes()[:blocks * 512] == data.read_bytes(), form
        out, tuples = folder / f"out{number}", folder / f"tuples{number}"
        good(programs, "nvme_copy", *q, "--to", out, "--chunk", 4500)
        assert out.read_bytes() == data.read_bytes(), form
        out.unlink()
        good(programs, "nvme_copy", *q, "--to", out, "--metadata", tuples, "--chunk", 3584)
        assert out.read_bytes() == data.read_bytes(), form
        assert tuples.read_bytes() == disk.read_bytes()[blocks * 512:], form
        # Data and metadata on another disk of this format, which checks the tuples when they are read.
        other = folder / f"other{number}.img"
        other.write_bytes(bytes(blocks * (512 + size)))
        q[q.index(disk)] = other
        if "pi" not in form:
            tuples.write_bytes(os.urandom(blocks * size))
        good(programs, "nvme_copy", *q, "--from", out, "--metadata", tuples, "--chunk", 3584)
        assert other.read_bytes() == data.read_bytes() + tuples.read_bytes(), form
        out.unlink()
        good(programs, "nvme_copy", *q, "--to", out)
        assert out.read_bytes() == data.read_bytes(), form
    bad(programs, "the namespace has no metadata", "nvme_copy", "--backend", "qtest", "--image",
        image(folder, "none.img", 1 << 20), "--to", folder / "none.out", "--metadata", folder / "none.meta")


def qemu_mistakes(programs, folder):
    need_qemu()
    disk = image(folder, "disk.img", 1 << 20)
    q = ["--backend", "qtest"]
    bad(programs, "--image FILE", "nvme_perf", *q)
    bad(programs, "nowhere.img: .*does not exist", "nvme_perf", *q, "--image", folder / "nowhere.img")
    bad(programs, "too small", "nvme_perf", *q, "--image", image(folder, "small.img", 100))
    bad(programs, "00:1e.0: .*no such function", "identify", *q, "--image", disk, "--device", "00:1e.0")
    bad(programs, "00:00.0: is no NVMe controller", "identify", *q, "--image", disk, "--device",
        "0000:00:00.0")
    path, os.environ["PATH"] = os.environ["PATH"], str(folder)
    bad(programs, "QEMU is not installed.*apt-get install", "nvme_perf", *q, "--image", disk)
    os.environ["PATH"] = path


def qemu_shutdown(programs, folder):
    """Every program ends with a shutdown notification (CC.SHN), on success and on failure."""
    need_qemu()
    real = shutil.which("qemu-system-x86_64")
    trace = folder / "trace"
    (folder / "bin").mkdir()
    wrapper = folder / "bin/qemu-system-x86_64"
    wrapper.write_text(f'#!/bin/sh\nexec {real} "$@" -trace pci_nvme_mmio_shutdown_set -D {trace}\n')
    wrapper.chmod(0o755)
    os.environ["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    disk = image(folder, "disk.img", 1 << 20)
    odd = image(folder, "odd.img", 2 << 20)
    q = ["--backend", "qtest", "--image", disk]
    ways = [(0, "identify", *q), (1, "identify", *q, "--nsid", 9),
            (0, "nvme_copy", *q, "--to", folder / "out.img"), (1, "nvme_copy", *q, "--from", odd),
            (1, "nvme_copy", *q, "--nsid", 2, "--to", folder / "none.img"),
            (0, "nvme_perf", *q, "--count", 100), (1, "nvme_perf", *q, "--nsid", 2),
            (1, "nvme_perf", *q, "--bs", "4096", "--qd", 1, "--size", 512)]
    for status, *line in ways:
        trace.unlink(missing_ok=True)
        assert run(programs, *line)[0] == status, line
        seen = trace.read_text() if trace.exists() else ""
        assert seen.count("shutdown bit set") == 1, f"{line}: {seen!r}"
    trace.unlink()
    status, out, _ = start_and_stop(programs, signal.SIGINT, "nvme_perf", *q, "--json", "--time", 3600, seconds=2)
    assert status == 0 and json.loads(out)["reads"] > 0, out
    assert trace.read_text().count("shutdown bit set") == 1, trace.read_text()


def start_and_stop(programs, which, *line, seconds=0.3):
    """Starts a program, sends it a signal once it handles that, and returns its status, output and complaints."""
    child = subprocess.Popen([programs / line[0], *map(str, line[1:])], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    try:
        handled = 0
        while not handled >> (which - 1) & 1 and child.poll() is None:
            status = Path(f"/proc/{child.pid}/status").read_text()
            handled = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
        time.sleep(seconds)
        child.send_signal(which)
        out, err = child.communicate(timeout=LIMIT_S)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    return child.returncode, out, err


def stopped(programs, folder):
    """Ctrl-C gives the results so far; a program that has not done its work says so."""
    for which in (signal.SIGINT, signal.SIGTERM):
        for mode in ([], ["--single-step"]):
            status, out, err = start_and_stop(programs, which, "nvme_perf", "--json", "--time", 3600, *mode)
            assert (status, err) == (0, ""), err
            result = json.loads(out)
            assert result["reads"] > 0 and result["seconds"] < 60, result
    # What was written is to be read back, which is not done any more.
    status, out, err = start_and_stop(programs, signal.SIGINT, "nvme_perf", "--json", "--time", 3600, "--rw",
                                      "randwrite", "--verify")
    assert status == 1 and re.search("stopped by a signal.*not read back", err), err
    assert json.loads(out)["writes"] > 0, out
    # Before anything was measured: the pattern of a large namespace is being written.
    status, out, err = start_and_stop(programs, signal.SIGINT, "nvme_perf", "--bs", 512, "--size", "1G", "--disk-size",
                                      "1G", "--verify", "--time", 3600)
    assert status == 1 and out == "" and re.search("stopped by a signal.*nothing was measured", err), err
    status, out, err = start_and_stop(programs, signal.SIGINT, "nvme_copy", "--chunk", 512, "--disk-size", "1G", "--to",
                                      folder / "copy.img")
    assert status == 1 and re.search("stopped by a signal.*beginning of the namespace", err), err


def readme(programs, folder):
    """The program that README.md walks through is the one that is built here."""
    root = Path(__file__).resolve().parents[2]
    text = (root / "README.md").read_text()
    blocks = [b for b in re.findall(r"```cpp[^\n]*\n(.*?)```", text, re.S) if "result<> hello" in b]
    assert len(blocks) == 1, f"{len(blocks)} walks in README.md"
    assert blocks[0] in (root / "examples/hello_nvme.cpp").read_text(), "README.md shows another program"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (root / link).exists(), f"README.md links to {link}, which is not there"


def systems(programs, folder):
    text = good(programs, "pool", "--rows", 4, "--move", "0:1", "--move", "3:2")
    assert text.startswith("Simulated"), text
    assert re.search(r"move VF0 to root 1: \d+ commands in flight ended with an error", text), text
    last = [line for line in text.splitlines() if line.startswith("  0.")][-1].split("|")
    assert [sorted(re.findall(r"VF\d", cell)) for cell in last[1:4]] == [
        [], ["VF0", "VF1", "VF4"], ["VF2", "VF3", "VF5"]], text
    assert re.search(r"^\d+ blocks of 4 KiB read and checked", text, re.M), text
    figures = folder / "mediated.json"
    text = good(programs, "mediated_nvme", "--json", figures)
    assert text.startswith("Simulated"), text
    rows = re.findall(r"^ +(\d+) \|", text, re.M)
    assert rows == ["1", "2", "4", "8", "16", "32", "64", "128", "252"], text
    names = {b["name"] for b in json.loads(figures.read_text())["benchmarks"]}
    assert {"all_active/functions:252", "one_active/functions:1"} <= names, names


GROUPS = {"readme": readme, "systems": systems, "hello": hello, "perf": perf_results, "corruption": corruption, "mistakes": mistakes, "faults": faults, "stopped": stopped,
          "identify": identify, "copy": copy, "terminal": terminal, "qemu": qemu, "qemu_metadata": qemu_metadata,
          "qemu_mistakes": qemu_mistakes, "qemu_shutdown": qemu_shutdown}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="phasebit-examples-") as scratch:
        GROUPS[sys.argv[1]](Path(sys.argv[2]).resolve(), Path(scratch))
