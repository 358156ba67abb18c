#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws one Google Benchmark JSON file with gnuplot: time per operation, one line per benchmark.

A benchmark `name/depth:8`, `name/depth:64` is a line over its last argument; there is one panel for
each argument's name, and bars for benchmarks without one. The time is the minimum over the
repetitions, for what disturbs a measurement only adds to it; per item where the benchmark counts
items. A benchmark with counters named `tables...` is about these, not about time: one line for each.
Usage: plot.py IN.json OUT.svg
"""
import json
import re
import subprocess
import sys
from pathlib import Path

MODIFIER = re.compile(r"(real|manual|process)_time|(threads|repeats|iterations|min_time):.*")
UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


def nanoseconds(run):
    if run.get("items_per_second"):
        return 1e9 / run["items_per_second"]
    return run["real_time"] * UNITS[run["time_unit"]]


def values(run):
    """[(label on the axis, end of the line's name, value)]"""
    counted = [(name.removeprefix("tables"), value) for name, value in run.items() if name.startswith("tables")]
    if counted:
        return [("tables", end, value) for end, value in counted]
    return [("ns per operation", "", nanoseconds(run))]


def panels_of(runs):
    """{(argument's name, or None without one, what is drawn): {line: {x: least value}}}"""
    panels = {}
    order = lambda r: (r.get("family_index", 0), r.get("per_family_instance_index", 0))  # noqa: E731
    for run in sorted(runs, key=order):
        if run.get("run_type") != "iteration" or run.get("error_occurred"):
            continue
        parts = [p for p in run.get("run_name", run["name"]).split("/") if not MODIFIER.fullmatch(p)]
        argument, x = None, 0
        if len(parts) > 1 and (m := re.fullmatch(r"(?:(\w+):)?(\d+)", parts[-1])):
            argument, x = m.group(1) or "argument", int(m.group(2))
            parts.pop()
        for what, end, value in values(run):
            points = panels.setdefault((argument, what), {}).setdefault("/".join(parts) + end, {})
            points[x] = min(points.get(x, float("inf")), value)
    return panels


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def short(number):
    for unit, suffix in ((1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")):
        if number >= unit and number % unit == 0:
            return f"{number // unit}{suffix}"
    return str(number)


def axis(letter, values, ratio):
    """Powers where the values lie far apart, from zero where the eye can compare lengths."""
    if values and min(values) > 0 and max(values) > ratio * min(values):
        return [f"set autoscale {letter}", f"set logscale {letter} {2 if letter == 'x' else 10}"]
    return [f"unset logscale {letter}", f"set {letter}range [{'0' if letter == 'y' else '*'}:*]"]


def lines_panel(argument, series):
    xs = sorted({x for points in series.values() for x in points})
    script = ["set key below left Left reverse noenhanced", f"set xlabel {quoted(argument)} noenhanced"]
    script += axis("x", xs, 8) + axis("y", [ns for p in series.values() for ns in p.values()], 50)
    script.append(f"set xrange [{xs[0] * 0.98}:{xs[-1] * 1.05}]")
    script.append("set xtics norotate (" + ", ".join(f"'{short(x)}' {x}" for x in xs) + ")")
    for i, points in enumerate(series.values()):
        script += [f"$s{i} << EOD", *(f"{x} {ns:.4f}" for x, ns in sorted(points.items())), "EOD"]
    script.append("plot " + ", ".join(f"$s{i} with linespoints lw 2 title {quoted(line)}"
                                      for i, line in enumerate(series)))
    return script


def bars_panel(series):
    script = ["unset key", "unset xlabel", "unset logscale x", "set xrange [*:*]", "set style fill solid 0.7",
              "set boxwidth 0.7", "set xtics rotate by -20 noenhanced", "$b << EOD"]
    script += [f'{i} {points[0]:.4f} "{line}"' for i, (line, points) in enumerate(series.items())]
    script += ["EOD", *axis("y", [points[0] for points in series.values()], 50)]
    script.append("plot $b using 1:2:xtic(3) with boxes, "
                  "$b using 1:2:(sprintf('%.3g', $2)) with labels offset 0,0.7")
    return script


def main():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    panels = panels_of(json.loads(source.read_text())["benchmarks"])
    if not panels:
        print(f"{source}: nothing to draw")
        return 0
    height = sum(420 + 10 * len(series) for series in panels.values())
    script = [f"set terminal svg size 960,{height} font 'sans,12' background '#ffffff'",
              f"set output {quoted(str(target))}", "set grid",
              f"set multiplot layout {len(panels)},1 title {quoted(source.stem)} noenhanced"]
    for (argument, what), series in panels.items():
        script.append(f"set ylabel {quoted(what)}")
        script += bars_panel(series) if argument is None else lines_panel(argument, series)
    script.append("unset multiplot")
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)
    print(f"drawn: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
