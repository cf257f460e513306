#!/usr/bin/env python3
"""Make the lab from nothing, run a real workflow through it, and print how long each step took.

demo up      secrets, machines, services, verify; safe to repeat
demo down    take everything of the lab away
demo test    up twice (the second must change nothing), then down unless the lab stood before
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
SITE = ROOT / "inventories" / "lab"
FLEET_FILE = SITE / "lab.fleet.yml"
RECAP = re.compile(r"^(?P<host>\S+)\s+: ok=\d+\s+changed=(?P<changed>\d+)\s+unreachable=\d+\s+failed=\d+", re.MULTILINE)
STEP_LIMIT_SECONDS = 2400
# name of the step, playbook, extra arguments, whether a second run must change nothing
STEPS: list[tuple[str, str, list[str], bool]] = [
    ("secrets", "omtd.workflow.secrets", [], True),
    ("provision", "omtd.workflow.provision", [], True),
    ("site", "omtd.workflow.site", [], True),
    ("verify", "omtd.workflow.verify", [], False),
]


@dataclass(frozen=True)
class Step:
    """One playbook run: its name, exit code, seconds and changed tasks (over all hosts)."""

    name: str
    code: int
    seconds: float
    changed: int
    repeatable: bool


def environment() -> dict[str, str]:
    """Give the environment in which an operator in the lab's site folder runs ansible-playbook."""
    return {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(BUILD),
        "ANSIBLE_CONFIG": str(SITE / "ansible.cfg"),
        "PYTHONUNBUFFERED": "1",
    }


def play(playbook: str, arguments: list[str], log: Path) -> tuple[int, str]:
    """Run one playbook, with its output shown and kept in a log; give exit code and output."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["ansible-playbook", "-i", str(FLEET_FILE), playbook, *arguments]
    print(f"\n=== {' '.join(command)}", flush=True)
    started = time.monotonic()
    lines = []
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command,
            cwd=SITE,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - for the type checker: we asked for a pipe
        for line in process.stdout:
            print(line, end="", flush=True)
            kept.write(line)
            lines.append(line)
            if time.monotonic() - started > STEP_LIMIT_SECONDS:
                process.kill()
    return process.returncode, "".join(lines)


def run_steps() -> list[Step]:
    """Run the steps in order and stop at the first that fails."""
    steps = []
    for name, playbook, arguments, repeatable in STEPS:
        started = time.monotonic()
        code, output = play(playbook, arguments, BUILD / "logs" / f"demo-{name}.log")
        changed = sum(int(match["changed"]) for match in RECAP.finditer(output))
        steps.append(Step(name, code, time.monotonic() - started, changed, repeatable))
        if code:
            break
    return steps


def print_figures(steps: list[Step]) -> None:
    """Print and keep the figures of a run."""
    print(f"\n{'step':<12}result  changed  seconds")
    for step in steps:
        changed = str(step.changed) if step.repeatable else "-"
        print(f"{step.name:<12}{'failed' if step.code else 'ok':<8}{changed:>7}  {step.seconds:7.0f}")
    changed_in_all = sum(step.changed for step in steps if step.repeatable)
    seconds_in_all = sum(step.seconds for step in steps)
    print(f"{'together':<12}{'':<8}{changed_in_all:>7}  {seconds_in_all:7.0f}")
    figures = [vars(step) for step in steps]
    name = "demo-first-figures.json" if changed_in_all else "demo-figures.json"
    (BUILD / name).write_text(json.dumps(figures, indent=2) + "\n")


def print_whereabouts() -> None:
    """Say where the lab's services are and how to look at them."""
    inventory = json.loads(
        subprocess.run(
            ["ansible-inventory", "-i", str(FLEET_FILE), "--list"],
            cwd=SITE,
            env=environment(),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    )
    variables = inventory["_meta"]["hostvars"]
    print("\nThe lab:")
    for host in sorted(variables):
        print(
            f"  {host:<16} {variables[host]['fleet_private_address']:<16} {' '.join(variables[host]['fleet_groups'])}"
        )

    def first(group: str) -> str:
        return variables[inventory[group]["hosts"][0]]["fleet_private_address"]

    reports = sorted((SITE / "reports").glob("*/report.md"))
    print(f"  executor (REST)  http://{first('executor')}:8080/api/version")
    print(f"  registry         https://{first('docker_registry')}:5000 (CA: {SITE / 'pki' / 'ca.crt'})")
    print(f"  ssh              ssh -F {SITE / '.fleet' / 'ssh_config'} HOST")
    print(f"  secrets          cd {SITE} && ansible-vault view group_vars/all/vault.yml")
    if reports:
        print(f"  report           {reports[-1]}")
    print("  take it away     make demo-down")


def up() -> list[Step]:
    """Make the lab, or find that nothing is to be done."""
    steps = run_steps()
    print_figures(steps)
    if not any(step.code for step in steps):
        print_whereabouts()
    return steps


def down() -> int:
    """Take the lab away, volumes included."""
    code, _output = play(
        "omtd.workflow.teardown",
        ["-e", "confirm=lab", "-e", "delete_kept_volumes=true"],
        BUILD / "logs" / "demo-down.log",
    )
    return code


def lab_stands() -> bool:
    """Say whether a machine of the lab exists."""
    names = subprocess.run(
        ["podman", "ps", "--all", "--filter", "label=omtd_site=lab", "--format", "{{.Names}}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return bool(names.strip())


def test() -> int:
    """Make the lab twice and run the site's tests on it; the second making must change nothing."""
    stood_before = lab_stands()
    failures = []
    try:
        if any(step.code for step in up()):
            failures.append("make demo failed")
        else:
            second = up()
            failures += [f"the second run failed in {step.name}" for step in second if step.code]
            failures += [
                f"the second run changed {step.changed} tasks in {step.name}"
                for step in second
                if step.repeatable and step.changed
            ]
            code = subprocess.run(
                ["pytest", "-q", str(ROOT / "tests" / "site")], env=environment(), check=False
            ).returncode
            failures += ["tests/site failed"] if code else []
    finally:
        if not stood_before and down():
            failures.append("make demo-down failed")
    if not stood_before and lab_stands():
        failures.append("make demo-down left machines behind")
    for failure in failures:
        print(f"FAILED: {failure}", flush=True)
    return 1 if failures else 0


def main() -> int:
    """Do what the one argument says."""
    actions = {"up": lambda: int(any(step.code for step in up())), "down": down, "test": test}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        print(__doc__, file=sys.stderr)
        return 2
    return actions[sys.argv[1]]()


if __name__ == "__main__":
    sys.exit(main())
