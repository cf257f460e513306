"""Fixtures of the tests of a site's playbooks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import site_runs


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an inventory that says whose folder it is."""
    folder = tmp_path / "site"
    folder.mkdir()
    site_runs.write_hosts(folder, {})
    return folder
