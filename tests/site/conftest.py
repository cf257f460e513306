"""What the site's tests stand on: the lab as its inventory describes it, its Galaxy by API, its hosts by SSH."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import testinfra
from bioblend.galaxy import GalaxyInstance

SITE = Path(__file__).resolve().parents[2] / "inventories" / "lab"
FLEET_FILE = SITE / "lab.fleet.yml"


@pytest.fixture(scope="session")
def site_folder() -> Path:
    """Give the lab's site folder."""
    return SITE


@pytest.fixture(scope="session")
def inventory() -> dict[str, Any]:
    """Give the lab's inventory, secrets decrypted, as ``ansible-inventory --list`` says it."""
    listed = subprocess.run(
        ["ansible-inventory", "-i", str(FLEET_FILE), "--list"], cwd=SITE, stdout=subprocess.PIPE, check=True
    )
    return json.loads(listed.stdout)


@pytest.fixture(scope="session")
def first_host(inventory: dict[str, Any]):
    """Give a function: group -> name of its first host."""
    return lambda group: inventory[group]["hosts"][0]


@pytest.fixture(scope="session")
def host():
    """Give a function: host name -> testinfra host, root by sudo, over the site's own ssh_config."""
    return lambda name: testinfra.get_host(f"ssh://{name}", ssh_config=str(SITE / ".fleet" / "ssh_config"), sudo=True)


@pytest.fixture(scope="session")
def variables(inventory: dict[str, Any]):
    """Give a function: host name -> its variables."""
    return lambda name: inventory["_meta"]["hostvars"][name]


@pytest.fixture(scope="session")
def galaxy(first_host, variables, host) -> GalaxyInstance:
    """Give the executor's REST API, as the administrator that automation made, with the key that Galaxy gave him."""
    executor = first_host("executor")
    key = host(executor).file("/etc/galaxy/executor/admin.key").content_string.strip()
    return GalaxyInstance(f"http://{variables(executor)['ansible_host']}:8080", key=key)
