"""What the inventory does when the cloud is slow, changed or gone. Only the answer of the cloud is made up here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.utils.display import Display
from ansible_collections.omtd.workflow.plugins.module_utils.clouds.base import CloudUnavailableError
from ansible_collections.omtd.workflow.plugins.module_utils.site import fleet_hosts

FLEET = """\
plugin: omtd.workflow.fleet
site: far
cloud: {provider: podman, subnet: 172.31.72.128/25}
machines: {worker: {count: 2, groups: [normal]}}
"""
CACHE = """\
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: "%s"
"""


def machine(address: str, *, present: bool = True, **more: object) -> dict[str, object]:
    return {"present": present, "private_address": address, "public_address": "", "user": "debian", "port": 22, **more}


class Answers:
    """The cloud: what it answers, and how often it was asked."""

    def __init__(self) -> None:
        self.machines: dict[str, dict[str, object]] = {}
        self.fault = ""
        self.asked = 0

    def __call__(self, _spec: object) -> dict[str, object]:
        self.asked += 1
        if self.fault:
            raise CloudUnavailableError(self.fault)
        return {"machines": dict(self.machines)}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers()
    answers.machines = {"far-worker-1": machine("172.31.72.141"), "far-worker-2": machine("172.31.72.142")}
    monkeypatch.setattr(fleet_hosts, "observe", answers)
    return answers


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda _self, text, *_rest, **_more: heard.append(str(text)))
    return heard


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "far.fleet.yml"
    file.write_text(FLEET)
    return file


def addresses(path: Path, *, cache: bool = True) -> dict[str, str]:
    """{host: ansible_host} as a new run of Ansible sees it."""
    manager = InventoryManager(loader=DataLoader(), sources=[str(path)], cache=cache)
    return {name: str(host.vars["ansible_host"]) for name, host in manager.hosts.items()}


def test_the_last_known_state_serves_when_the_cloud_is_down_and_says_so(
    path: Path, cloud: Answers, warnings: list[str]
) -> None:
    before = addresses(path)
    assert before == {"far-worker-1": "172.31.72.141", "far-worker-2": "172.31.72.142"}
    assert warnings == []
    cloud.fault = "connection refused"
    assert addresses(path) == before
    assert "does not answer" in warnings[0]
    assert "last seen 2" in warnings[0]
    assert "connection refused" in warnings[0]


def test_a_cloud_that_never_answered_leaves_machines_absent_and_says_why(
    path: Path, cloud: Answers, warnings: list[str]
) -> None:
    cloud.fault = "no route"
    assert addresses(path)["far-worker-1"] == "far-worker-1.absent.invalid"
    assert "no route" in warnings[0]


def test_the_last_state_of_another_site_is_not_taken_for_ours(path: Path, cloud: Answers, warnings: list[str]) -> None:
    addresses(path)
    path.write_text(FLEET.replace("site: far", "site: near"))
    cloud.fault = "down"
    assert set(addresses(path).values()) == {"near-worker-1.absent.invalid", "near-worker-2.absent.invalid"}
    assert warnings


def test_a_damaged_state_file_is_passed_over(path: Path, cloud: Answers, warnings: list[str]) -> None:
    addresses(path)
    (path.parent / ".fleet" / "last-state.json").write_text("{half")
    cloud.fault = "down"
    assert addresses(path)["far-worker-1"] == "far-worker-1.absent.invalid"
    assert warnings


def test_a_cached_inventory_does_not_ask_the_cloud_again(tmp_path: Path, path: Path, cloud: Answers) -> None:
    path.write_text(FLEET + CACHE % (tmp_path / "cache"))
    first = addresses(path)
    assert cloud.asked == 1
    cloud.machines["far-worker-1"]["private_address"] = "172.31.72.199"
    assert addresses(path) == first
    assert cloud.asked == 1
    assert addresses(path, cache=False)["far-worker-1"] == "172.31.72.199"
    assert addresses(path)["far-worker-1"] == "172.31.72.199"
    assert cloud.asked == 2


def test_a_cache_without_all_machines_is_not_trusted(tmp_path: Path, path: Path, cloud: Answers) -> None:
    path.write_text(FLEET + CACHE % (tmp_path / "cache"))
    whole = dict(cloud.machines)
    del cloud.machines["far-worker-2"]
    assert addresses(path)["far-worker-2"] == "far-worker-2.absent.invalid"
    cloud.machines.update(whole)
    assert addresses(path)["far-worker-2"] == "172.31.72.142"


def test_a_machine_that_nobody_can_log_in_to_yet_counts_as_absent(path: Path, cloud: Answers) -> None:
    cloud.machines["far-worker-2"] = machine("172.31.72.142", present=False)
    assert addresses(path)["far-worker-2"] == "far-worker-2.absent.invalid"


def test_the_state_that_is_kept_has_no_more_than_addresses(path: Path, cloud: Answers) -> None:
    addresses(path)
    kept = json.loads((path.parent / ".fleet" / "last-state.json").read_text())
    assert set(kept) == {"format", "site", "taken", "machines"}


def test_an_answer_that_would_write_ssh_directives_is_refused(path: Path, cloud: Answers) -> None:
    cloud.machines["far-worker-1"] = machine("10.0.0.1\n  ProxyCommand touch /tmp/owned")
    assert addresses(path) == {}
    assert not (path.parent / ".fleet" / "ssh_config").exists()


def test_an_unchanged_state_leaves_the_files_alone(path: Path, cloud: Answers) -> None:
    addresses(path)
    stamps = {file.name: file.stat().st_mtime_ns for file in (path.parent / ".fleet").iterdir()}
    addresses(path)
    assert {file.name: file.stat().st_mtime_ns for file in (path.parent / ".fleet").iterdir()} == stamps
    assert cloud.asked == 2
