#!/usr/bin/env python3
"""Print the figures and ratios of the speed table, measured in one run on the standing lab (make demo first)."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from demo import BUILD, FLEET_FILE, SITE, environment, lab_stands

HOSTS = 1000


def run(command: list[str], folder: Path = SITE) -> tuple[float, float]:
    """Run a command and give its wall and CPU seconds; RuntimeError when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    ended = subprocess.run(
        command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    wall = time.monotonic() - started
    if ended.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stdout[-3000:]}{ended.stderr[-1000:]}"
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def play(playbook: str, *arguments: str) -> float:
    """Run one playbook on the lab and give its wall seconds."""
    return run(["ansible-playbook", "-i", str(FLEET_FILE), playbook, *arguments])[0]


def bench_site() -> None:
    """A second site run with nothing to do, against the first one that make demo timed."""
    second = play("omtd.workflow.site")
    print(f"site, nothing to do: {second:.0f} s (goal 90 s)")
    figures = BUILD / "demo-first-figures.json"
    if figures.exists():
        first = next(step["seconds"] for step in json.loads(figures.read_text()) if step["name"] == "site")
        print(f"site, first ÷ second run: {first / second:.1f}")
    else:
        print("site, first ÷ second run: unknown, the lab was not made from this checkout")


def bench_jobs() -> None:
    """Small jobs through Galaxy and Slurm: one after the other, and 50 at once."""
    play("omtd.workflow.verify", "-e", json.dumps({"verify_parts": ["latency", "parallel"]}))
    newest = max(SITE.glob("reports/*/results.json"), key=lambda path: path.stat().st_mtime)
    results = json.loads(newest.read_text())
    alone = statistics.median(results["latency"])
    together = results["parallel"]
    print(f"container job, submission to ok: {alone:.1f} s (goal 5 s)")
    print(f"{together['jobs']:.0f} jobs at once: {together['seconds']:.1f} s, {together['lost']:.0f} lost (goal 0)")
    print(f"jobs one after the other ÷ at once: {alone * together['jobs'] / together['seconds']:.1f}")


def bench_inventory() -> None:
    """CPU of ansible-inventory with the fleet plugin against the same hosts in static YAML."""
    machine = "  worker: {groups: [normal], addresses: [%s]}"
    addresses = ", ".join(f"10.{n // 250 // 250}.{n // 250 % 250}.{n % 250 + 1}" for n in range(HOSTS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fleet = folder / "big.fleet.yml"
        head = "---\nplugin: omtd.workflow.fleet\nsite: big\ncloud: {provider: existing}\nmachines:\n"
        fleet.write_text(f"{head}{machine % addresses}\n")
        listed = subprocess.run(
            ["ansible-inventory", "-i", str(fleet), "--list", "--yaml"],
            env=environment(),
            stdout=subprocess.PIPE,
            check=True,
        )
        static = folder / "static.yml"
        static.write_bytes(listed.stdout)
        cpu = {path.name: run(["ansible-inventory", "-i", str(path), "--list"], folder)[1] for path in (fleet, static)}
    ours, plain = cpu["big.fleet.yml"], cpu["static.yml"]
    print(f"ansible-inventory, {HOSTS} hosts, CPU: fleet file {ours:.1f} s, static YAML {plain:.1f} s")
    print(f"ansible-inventory, fleet file ÷ static YAML: {ours / plain:.2f}")


def main() -> int:
    """Print every figure; exit 1 when there is no lab to measure."""
    if not lab_stands():
        print("the lab does not stand: run make demo first", file=sys.stderr)
        return 1
    print(f"on {os.cpu_count()} cores")
    bench_inventory()
    bench_site()
    bench_jobs()
    return 0


if __name__ == "__main__":
    sys.exit(main())
