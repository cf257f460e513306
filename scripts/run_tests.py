#!/usr/bin/env python3
"""Run the parts of the test suite one after the other, and end with a table part, result, seconds.

Every part runs even when an earlier one failed, so that one run tells everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
COLLECTION = BUILD / "ansible_collections" / "omtd" / "workflow"

PYPROJECT = str(ROOT / "pyproject.toml")

# part -> steps: (what it is, command, folder it runs in). Plugins are tested as installed: their imports say
# ansible_collections.omtd.workflow, which only the installed tree answers to.
PARTS: dict[str, list[tuple[str, list[str], Path]]] = {
    "lint": [
        ("ruff check", ["ruff", "check", "."], ROOT),
        ("ruff format", ["ruff", "format", "--check", "."], ROOT),
        ("shellcheck", ["bash", "-c", "shellcheck $(grep -lE '^#!.*(ba)?sh' scripts/* .ci/run)"], ROOT),
        ("yamllint", ["yamllint", "--strict", "."], ROOT),
        (
            "mypy, plugins",
            ["mypy", "--config-file", PYPROJECT, "-p", "ansible_collections.omtd.workflow.plugins"],
            BUILD,
        ),
        ("mypy, scripts", ["mypy", "--config-file", PYPROJECT, "scripts"], ROOT),
        ("ansible-lint", ["ansible-lint", "--offline"], ROOT),
        ("argument specs", ["pytest", "-q", "tests/lint"], COLLECTION),
        ("ansible-test sanity", [str(ROOT / "scripts" / "ansible-test-sanity"), str(COLLECTION)], ROOT),
    ],
    "unit": [("unit and property tests", ["pytest", "-q", "-n", "2", "tests/unit"], COLLECTION)],
    "podman": [("podman cloud", ["pytest", "-q", "tests/integration/podman"], COLLECTION)],
    "roles": [("Molecule, one scenario a role", [str(ROOT / "scripts" / "run_scenarios.py")], ROOT)],
    "site": [("the demo, twice, and its tests", [str(ROOT / "scripts" / "demo.py"), "test"], ROOT)],
}
STEP_LIMIT_SECONDS = 3600


def run_step(title: str, command: list[str], folder: Path) -> tuple[bool, float]:
    """Run one step with its output shown; True when it exited with 0."""
    print(f"\n=== {title}: {' '.join(command)}", flush=True)
    environment = {**os.environ, "PYTHONPATH": str(BUILD), "ANSIBLE_COLLECTIONS_PATH": str(BUILD)}
    started = time.monotonic()
    try:
        code = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=STEP_LIMIT_SECONDS,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"{title}: stopped after {STEP_LIMIT_SECONDS} s", flush=True)
        code = 124
    return code == 0, time.monotonic() - started


def main(parts: list[str]) -> int:
    """Run the named parts; exit 1 when a step of them failed."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        print(f"usage: run_tests.py PART…, with PART one of {', '.join(PARTS)}", file=sys.stderr)
        return 2
    rows = []
    for part in parts:
        for title, command, folder in PARTS[part]:
            passed, seconds = run_step(title, command, folder)
            rows.append((part, title, passed, seconds))
    width = max(len(title) for _part, title, _passed, _seconds in rows)
    print(f"\n{'part':<8}{'step':<{width}}  result  seconds")
    for part, title, passed, seconds in rows:
        print(f"{part:<8}{title:<{width}}  {'passed' if passed else 'FAILED'}  {seconds:7.0f}")
    failed = sum(not passed for _part, _title, passed, _seconds in rows)
    print(f"{len(rows) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
