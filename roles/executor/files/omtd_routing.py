"""Where a tool runs: the rules of routing.yml ask this module."""

import re
from pathlib import Path

import galaxy.tools

GALAXY = Path(galaxy.tools.__file__).resolve().parent.parent


def place(tool, tools_dir: str, heavyweight_tools: list[str]) -> str:
    """Name the place where a tool runs.

    executor: a tool that comes with Galaxy. heavyweight: a component below the directory `heavyweight` of the tools
    directory, or whose id one of the regular expressions matches as a whole. normal: every other component.
    """
    source = Path(getattr(tool, "config_file", None) or "/").resolve()
    if source.is_relative_to(GALAXY):
        return "executor"
    if source.is_relative_to(Path(tools_dir).resolve() / "heavyweight"):
        return "heavyweight"
    if any(re.fullmatch(pattern, tool.id or "") for pattern in heavyweight_tools):
        return "heavyweight"
    return "normal"
