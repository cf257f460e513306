# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests on podman."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from podman_site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that is taken away afterwards, whatever happened."""
    made = Site(tmp_path)
    made.converge("absent")
    try:
        yield made
    finally:
        made.converge("absent")
