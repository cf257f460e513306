"""Fixtures of the tests of a site's playbooks."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from site_runs import site  # noqa: F401 - a fixture is used by its name
