"""The launcher as a module, and a Docker that only writes down what it is asked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SOURCE = Path(__file__).resolve().parents[3] / "roles" / "slurm_node" / "files" / "component_launcher.py"

RECORDING_DOCKER = """#!/bin/sh
# One line a call: its arguments, each behind a unit separator. What to answer lies in files beside this program.
here=$(dirname "$0")
{ for word in "$@"; do printf '%s\\037' "$word"; done; echo; } >> "$here/calls"
verb=$1
[ "$1" = image ] || [ "$1" = container ] && verb="$1-$2"
[ -f "$here/$verb.sh" ] && { . "$here/$verb.sh"; exit; }
exit 0
"""


def load_launcher() -> ModuleType:
    """Load the launcher anew from its file, which is not in a package."""
    spec = importlib.util.spec_from_file_location("component_launcher", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["component_launcher"] = module
    spec.loader.exec_module(module)
    return module


class Docker:
    """A program that takes the place of Docker's."""

    def __init__(self, folder: Path) -> None:
        """Write the program into the folder."""
        self.folder = folder
        self.program = folder / "docker"
        self.program.write_text(RECORDING_DOCKER)
        self.program.chmod(0o755)

    def answer(self, verb: str, script: str) -> None:
        """Let a verb (``pull``, ``image-inspect``) answer by a shell script."""
        (self.folder / f"{verb}.sh").write_text(script)

    def calls(self) -> list[list[str]]:
        """Give the calls so far."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split("\x1f")[:-1] for line in lines]

    def calls_of(self, verb: str) -> list[list[str]]:
        """Give the calls of one verb."""
        return [call for call in self.calls() if call[0] == verb]
