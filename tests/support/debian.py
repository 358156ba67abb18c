# SPDX-License-Identifier: BSL-1.0
"""Debian packages for tests that need another kernel or another QEMU than the machine has: downloaded
from the mirror that apt is set up with, unpacked into a cache outside the tree, never installed."""
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("PHASEBIT_VM_CACHE", Path.home() / ".cache/phasebit/vm"))
# A mirror that does not answer is given up soon; one that crawls, a little later.
NETWORK = ["-oAcquire::Retries=1", "-oAcquire::http::Timeout=20", "-oAcquire::https::Timeout=20"]
LONGEST_SECONDS = 120


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def run(*command, **more):
    return subprocess.run(command, check=True, text=True, capture_output=True,
                          timeout=LONGEST_SECONDS, **more).stdout


def last_words(failed):
    """Why a command of run() failed, in its own words."""
    output = failed.stderr or "" if isinstance(failed, subprocess.CalledProcessError) else "it timed out"
    lines = output.decode(errors="replace") if isinstance(output, bytes) else output
    lines = lines.strip().splitlines() or ["no output"]
    return next((line for line in lines if line.startswith("E: ")), lines[-1])


def need_tools():
    for tool in ("apt-get", "apt-cache", "dpkg"):
        if shutil.which(tool) is None:
            skip(f"there is no {tool} to get packages with")
    CACHE.mkdir(parents=True, exist_ok=True)


@contextmanager
def alone(name):
    """One process at a time, because tests that run at once install the same packages."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def other_suite(suite):
    """The options that make apt look at that suite, with package lists of its own in the cache. Of SUITE-backports
    apt takes what is there, and other packages from SUITE."""
    mirrors = [line for line in run("apt-get", "indextargets", "--format", "$(REPO_URI)",
                                    "Created-By: Packages").split() if line.rstrip("/").endswith("/debian")]
    if not mirrors:
        skip("apt is set up with no Debian mirror")
    state = CACHE / f"{suite}-apt"
    (state / "lists/partial").mkdir(parents=True, exist_ok=True)
    suites = dict.fromkeys([suite.removesuffix("-backports"), suite])
    (state / "sources.list").write_text("".join(
        f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirrors[0]} {s} main\n" for s in suites))
    options = [f"-oDir::Etc::sourcelist={state}/sources.list", "-oDir::Etc::sourceparts=-",
               f"-oDir::State::lists={state}/lists", "-oDir::Cache::pkgcache=", "-oDir::Cache::srcpkgcache=",
               "-oAcquire::Languages=none", f"-oAPT::Default-Release={suite}", *NETWORK]
    with alone(f"{suite}-apt"):
        # By itself apt takes a mirror that does not answer for a warning.
        run("apt-get", *options, "-oAPT::Update::Error-Mode=any", "-q", "update")
    return options


def unpacked(name, suite, packages):
    """The folder that holds these packages of that suite and everything that they depend on."""
    root = CACHE / name
    with alone(name):
        if (root / "complete").exists():
            return root
        need_tools()
        try:
            with tempfile.TemporaryDirectory(dir=CACHE) as work:
                os.chmod(work, 0o777)  # apt downloads as a user of its own
                Path(work, "archives/partial").mkdir(parents=True)
                Path(work, "status").touch()  # as if nothing were installed: the whole closure
                run("apt-get", *other_suite(suite), f"-oDir::State::status={work}/status",
                    f"-oDir::Cache::archives={work}/archives", "-oDebug::NoLocking=1", "-q", "-y",
                    "--no-install-recommends", "--download-only", "install", *packages)
                for package in Path(work, "archives").glob("*.deb"):
                    run("dpkg", "-x", str(package), f"{work}/root")
                shutil.rmtree(root, ignore_errors=True)
                os.replace(f"{work}/root", root)
                (root / "complete").touch()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
            skip(f"{', '.join(packages)} of {suite} cannot be downloaded: {last_words(e)}")
    return root


def version_of(program):
    """Of a program that answers --version: (major, minor), or nothing."""
    try:
        found = re.search(r"version (\d+)\.(\d+)", run(str(program), "--version"))
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return (int(found.group(1)), int(found.group(2))) if found else None
