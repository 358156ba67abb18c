#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws one Google Benchmark JSON file with gnuplot: time per operation, one line per benchmark.

A benchmark `name/8`, `name/64` is a line over its last argument; one without arguments is a level
line. The time is the minimum over the repetitions, for what disturbs a measurement only adds to it,
per item where the benchmark counts items. Usage: plot.py IN.json OUT.svg
"""
import json
import re
import subprocess
import sys
from pathlib import Path

UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


def nanoseconds(run):
    if run.get("items_per_second"):
        return 1e9 / run["items_per_second"]
    return run["real_time"] * UNITS[run["time_unit"]]


def series_of(runs):
    """{line: {x or None: least nanoseconds}}"""
    series = {}
    for run in sorted(runs, key=lambda r: (r.get("family_index", 0), r.get("per_family_instance_index", 0))):
        if run.get("run_type") != "iteration" or run.get("error_occurred"):
            continue
        parts = [p for p in run.get("run_name", run["name"]).split("/")
                 if not re.fullmatch(r"(real_time|manual_time|process_time|(threads|repeats|iterations|min_time):.*)", p)]
        x = None
        if len(parts) > 1 and (m := re.fullmatch(r"(?:(\w+):)?(\d+)", parts[-1])):
            x = int(m.group(2))
            parts[-1] = m.group(1) or ""
        line = "/".join(p for p in parts if p)
        points = series.setdefault(line, {})
        points[x] = min(points.get(x, float("inf")), nanoseconds(run))
    return series


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def main():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    data = json.loads(source.read_text())
    series = series_of(data["benchmarks"])
    if not series:
        print(f"{source}: nothing to draw")
        return 0

    values = [ns for points in series.values() for ns in points.values() if ns > 0]
    swept = any(x is not None for points in series.values() for x in points)
    script = [f"set terminal svg size 960,{480 + 14 * len(series)} font 'sans,12' background '#ffffff'",
              f"set output {quoted(str(target))}", "set grid", "set key below left Left reverse noenhanced",
              f"set title {quoted(source.stem)} noenhanced", "set ylabel 'ns per operation'"]
    # From zero where the eye can compare lengths, by powers where it could not see the small ones.
    if swept and values and max(values) > 50 * min(values):
        script.append("set logscale y 10")
    else:
        script.append("set yrange [0:*]")
    if swept:
        xs = sorted({x for points in series.values() for x in points if x is not None})
        low, high = xs[0], max(xs[-1], xs[0] + 1)
        script.append("set xlabel 'last argument'")
        if low > 0 and high / low > 8:
            script.append("set logscale x 2")
        for i, points in enumerate(series.values()):
            script.append(f"$s{i} << EOD")
            if list(points) == [None]:
                points = {low: points[None], high: points[None]}
            script += [f"{x} {ns:.4f}" for x, ns in sorted((x, ns) for x, ns in points.items() if x is not None)]
            script.append("EOD")
        script.append("plot " + ", ".join(f"$s{i} with linespoints lw 2 title {quoted(line)}"
                                          for i, line in enumerate(series)))
    else:
        script += ["set style fill solid 0.7", "set boxwidth 0.7", "set xtics rotate by -30 noenhanced", "unset key", "$s << EOD"]
        script += [f'{i} {points[None]:.4f} "{line}"' for i, (line, points) in enumerate(series.items())]
        script += ["EOD", "plot $s using 1:2:xtic(3) with boxes, $s using 1:2:(sprintf('%.3g', $2)) with labels offset 0,0.7"]
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)
    print(f"drawn: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
