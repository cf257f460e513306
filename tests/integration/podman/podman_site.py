# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small site on podman, made for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

SITE = "t-podman"
SUBNET = "172.31.78.0/24"
PROGRAM = Path(__file__).parent / "converge_once.py"
STEP_LIMIT_SECONDS = 240


class Site:
    """The site folder, and what podman has of the site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / f"{SITE}.fleet.yml"
        self.log = folder / "log"
        self.content: dict[str, t.Any] = {
            "plugin": "omtd.workflow.fleet",
            "site": SITE,
            "cloud": {"provider": "podman", "subnet": SUBNET},
            "shared_dirs": {"database": {"path": "/srv/omtd/database"}},
            "defaults": {"vcpus": 1, "ram": "256 MiB"},
            "machines": {
                "master": {"groups": ["cluster_master"], "shared_dirs": ["database"], "public_ip": True},
                "worker": {
                    "groups": ["normal"],
                    "shared_dirs": ["database"],
                    "volumes": {"data": {"size": "1 GiB", "path": "/srv/data"}},
                },
            },
        }
        self.write()

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.content), encoding="utf-8")

    def start(self, state: str = "present") -> subprocess.Popen[bytes]:
        """A run in its own process group, as from a shell."""
        with self.log.open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                [sys.executable, str(PROGRAM), str(self.file), state],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def converge(self, state: str = "present", expected: int = 0) -> str:
        """One run to its end: what it said."""
        with self.start(state) as process:
            process.wait(timeout=STEP_LIMIT_SECONDS)
        assert process.returncode == expected, self.said()
        return self.said()

    def said(self) -> str:
        """What the last run said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ansible(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A playbook as an operator runs it."""
        return subprocess.run(
            ["ansible-playbook", "-i", str(self.file), f"omtd.workflow.{playbook}", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=STEP_LIMIT_SECONDS,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )

    def ssh(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        """A command on a machine, over ssh with its pinned key."""
        address = self.address(host)
        options = ["-F", os.devnull, "-i", str(self.folder / ".fleet" / "id_ed25519"), "-o", "BatchMode=yes"]
        options += [
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            f"UserKnownHostsFile={self.folder / '.fleet' / 'known_hosts'}",
        ]
        return subprocess.run(
            ["ssh", *options, "-o", "ConnectTimeout=5", f"debian@{address}", command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def address(self, host: str) -> str:
        for each in self.containers():
            if each["Names"] == [host]:
                return next(iter(json.loads(each["Labels"]["omtd_wanted"])["addresses"].values()))
        raise KeyError(host)

    def containers(self) -> list[dict[str, t.Any]]:
        return podman_list("ps", "--all", "--filter", f"label=omtd_site={SITE}")

    def inventory(self) -> dict[str, list[str]]:
        """Names of everything podman has of the site, and of leftovers that have its names."""
        everything = podman_list("ps", "--all", "--external")
        return {
            "machines": sorted(name for each in everything for name in each["Names"] if name.startswith(SITE)),
            "networks": sorted(each["name"] for each in podman_list("network", "ls") if SITE in each["name"]),
            "volumes": sorted(each["Name"] for each in podman_list("volume", "ls") if SITE in each["Name"]),
        }


def podman(*arguments: str) -> str:
    """What a podman command prints."""
    settings = Path("~/.cache/omtd-workflow/containers.conf").expanduser()
    environment = {**os.environ, **({"CONTAINERS_CONF": str(settings)} if settings.exists() else {})}
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def podman_list(*arguments: str) -> list[dict[str, t.Any]]:
    return json.loads(podman(*arguments, "--format", "json") or "[]") or []
