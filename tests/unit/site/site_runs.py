"""Runs playbooks of the collection for real, as an operator does: from a folder, with the collection's names."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import yaml

COLLECTION = Path(__file__).resolve().parents[3]
FIXTURES = COLLECTION / "tests" / "fixtures"


class Outcome:
    """What a run printed, and what it changed."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.code = process.returncode
        self.text = process.stdout + process.stderr
        self.stdout = process.stdout

    @property
    def changed(self) -> int:
        """How many tasks of localhost, or of the only host, changed something."""
        counts = [part for line in self.stdout.splitlines() for part in line.split() if part.startswith("changed=")]
        return sum(int(count.removeprefix("changed=")) for count in counts)

    @property
    def findings(self) -> list[str]:
        """The lines of validate's list."""
        # Before ansible-core 2.19 a message is shown as JSON, with its line breaks escaped.
        lines = [line.strip() for line in self.text.replace("\\n", "\n").splitlines()]
        found = dict.fromkeys(line[2:] for line in lines if line.startswith("- "))
        # The computer that tests run on need not run systemd, as the machines of a site do.
        return [line for line in found if not line.startswith("service manager")]


def run(command: list[str], folder: Path, **environment: str) -> Outcome:
    """Run a command without a terminal, with no configuration but the folder's own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    clean["ANSIBLE_COLLECTIONS_PATH"] = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(COLLECTION.parents[2])
    clean["ANSIBLE_LOCAL_TEMP"] = str(folder / ".ansible-tmp")
    clean.update(environment)
    process = subprocess.run(
        command,
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Outcome(process)


def write_hosts(folder: Path, children: dict[str, object], **values: object) -> Path:
    """A static inventory: what the inventory plugin would say, without a cloud."""
    path = folder / "hosts.yml"
    content = {"all": {"vars": {"site_folder": str(folder), **values}, "children": children}}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def vault(folder: Path) -> dict[str, object]:
    """The decrypted secrets of a site."""
    shown = run(
        ["ansible-vault", "view", "--vault-password-file", ".vault-password", "group_vars/all/vault.yml"], folder
    )
    assert shown.code == 0, shown.text
    return yaml.safe_load(shown.stdout)


def table() -> list[dict[str, object]]:
    """The table of secrets that the playbooks use."""
    content = yaml.safe_load((COLLECTION / "playbooks" / "vars" / "site_secrets.yml").read_text(encoding="utf-8"))
    return content["site_secrets"]


def dump(value: object) -> str:
    """For -e."""
    return json.dumps(value)
