#!/usr/bin/env python3
"""Run Molecule scenarios of the installed artefact, several at a time, and end with a table.

A scenario that did not run to its end is a failure: nothing is skipped silently.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
COLLECTION = BUILD / "ansible_collections" / "omtd" / "workflow"
BASE_CONFIG = COLLECTION / ".config" / "molecule" / "config.yml"
SCENARIO_LIMIT_SECONDS = 1500
TESTS_PASSED = re.compile(rb"^=+ .*\b[1-9]\d* passed", re.MULTILINE)
LOG_TAIL_LINES = 60


@dataclass(frozen=True)
class Result:
    """What became of one scenario: its name, whether it passed, and the seconds it took."""

    scenario: str
    passed: bool
    seconds: float
    log: Path


def scenarios() -> list[str]:
    """Name the scenarios of roles, the slow ones first so that two at a time end together."""
    slow_first = ["executor", "galaxy", "slurm_controller", "slurm_node", "verify"]
    found = sorted(path.parent.name for path in COLLECTION.glob("molecule/*/molecule.yml"))
    return sorted(found, key=lambda name: (slow_first.index(name) if name in slow_first else len(slow_first), name))


def run_scenario(name: str) -> Result:
    """Run one scenario's whole sequence; its output goes to a log of its own."""
    log = BUILD / "logs" / f"molecule-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    print(f"scenario {name}: started", flush=True)
    with log.open("wb") as out:
        try:
            code = subprocess.run(
                ["molecule", "--base-config", str(BASE_CONFIG), "test", "--scenario-name", name],
                cwd=COLLECTION,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=SCENARIO_LIMIT_SECONDS,
                env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "NO_COLOR": "1"},
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            out.write(f"\nstopped after {SCENARIO_LIMIT_SECONDS} s\n".encode())
            code = 124
    # Molecule calls a scenario without hosts or tests a success; here it is none
    passed = code == 0 and TESTS_PASSED.search(log.read_bytes()) is not None
    result = Result(name, passed, time.monotonic() - started, log)
    print(f"scenario {name}: {'passed' if result.passed else 'FAILED'} in {result.seconds:.0f} s", flush=True)
    return result


def show_failure(result: Result) -> None:
    """Print the end of a failed scenario's log."""
    lines = result.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    print(f"\n--- {result.scenario}: the end of {result.log.relative_to(ROOT)}\n" + "\n".join(lines), flush=True)


def main() -> int:
    """Run the named scenarios, or all; exit 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("JOBS", "2")), help="scenarios at a time")
    parser.add_argument("names", nargs="*", help="scenarios (default: all)")
    arguments = parser.parse_args()
    known = scenarios()
    unknown = sorted(set(arguments.names) - set(known))
    if unknown:
        print(f"no scenario {', '.join(unknown)}: there are {', '.join(known)}", file=sys.stderr)
        return 2
    if shutil.which("molecule") is None:
        print("molecule is not on PATH: call this through make", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        results = list(pool.map(run_scenario, arguments.names or known))
    for result in results:
        if not result.passed:
            show_failure(result)
    width = max(len(result.scenario) for result in results)
    print(f"\n{'scenario':<{width}}  result  seconds")
    for result in results:
        print(f"{result.scenario:<{width}}  {'passed' if result.passed else 'FAILED'}  {result.seconds:7.0f}")
    failed = sum(not result.passed for result in results)
    print(f"{len(results) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
