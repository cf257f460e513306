"""The inventory plugin, asked by ansible-inventory and ansible themselves."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

COLLECTION = Path(__file__).resolve().parents[3]
GROUPS = [
    "jump_host", "nfs_server", "docker_registry", "cluster_master", "cluster_nodes", "normal", "heavyweight",
    "executor", "editor", "monitor", "workflow_service", "testing_host",
]  # fmt: skip

EXISTING = """\
plugin: omtd.workflow.fleet
site: here
cloud: {provider: existing, user: admin, identity_file: ~/.ssh/site}
values: {domain: here.example, timezone: Europe/Athens, shared_storage: nfs}
shared_dirs: {database: {path: /data/database}}
defaults: {ram: 2 GiB}
machines:
  executor: {groups: [executor], vcpus: 2, disk: 30 GiB, volumes: {db: {size: 5 GiB}}, addresses: [192.0.2.11]}
  worker:
    groups: [normal]
    addresses:
      - 10.0.0.21
      - {private: 10.0.0.22, public: 192.0.2.22, user: ubuntu, port: 2222}
"""


def ask(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """ansible-inventory without any configuration."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    clean["ANSIBLE_COLLECTIONS_PATH"] = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(COLLECTION.parents[2])
    clean.update(environment)
    return subprocess.run(
        ["ansible-inventory", *arguments],
        cwd=folder, env=clean, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def listed(folder: Path, name: str = "here.fleet.yml", **environment: str) -> dict[str, dict[str, object]]:
    outcome = ask(folder, "-i", name, "--list", **environment)
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)  # type: ignore[no-any-return]


def hostvars(folder: Path, **environment: str) -> dict[str, dict[str, object]]:
    return listed(folder, **environment)["_meta"]["hostvars"]  # type: ignore[return-value]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "here.fleet.yml").write_text(EXISTING)
    return tmp_path


def test_ansible_finds_the_plugin_with_no_configuration_at_all(site: Path) -> None:
    found = listed(site)
    assert found["executor"]["hosts"] == ["here-executor-1"]
    assert found["normal"]["hosts"] == ["here-worker-1", "here-worker-2"]
    assert set(found["cluster_nodes"]["children"]) == {"normal", "heavyweight"}  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["here.yml", "fleet.yml.txt"])
def test_a_file_that_is_not_named_as_a_fleet_file_is_not_taken(site: Path, name: str) -> None:
    (site / name).write_text(EXISTING)
    assert "here-executor-1" not in ask(site, "-i", name, "--graph").stdout


def test_every_group_of_the_collection_exists_even_when_it_is_empty(site: Path) -> None:
    graph = ask(site, "-i", "here.fleet.yml", "--graph").stdout
    for group in GROUPS:
        assert f"@{group}:" in graph


def test_a_host_has_the_variables_that_roles_are_promised(site: Path) -> None:
    worker = hostvars(site)["here-worker-2"]
    wanted = {
        "ansible_host": "192.0.2.22",
        "ansible_port": 2222,
        "ansible_user": "ubuntu",
        "fleet_site": "here",
        "fleet_machine": "worker",
        "fleet_index": 2,
        "fleet_state": "present",
        "fleet_private_address": "10.0.0.22",
        "fleet_public_address": "192.0.2.22",
        "fleet_vcpus": 0,
        "fleet_ram_mib": 2048,
        "fleet_disk_gib": 0,
        "fleet_volumes": {},
        "fleet_groups": ["normal"],
        "site_name": "here",
        "site_domain": "here.example",
        "site_timezone": "Europe/Athens",
        "site_shared_storage": "nfs",
        "site_database_dir": "/data/database",
        "site_tools_dir": "/srv/omtd/tools",
        "site_job_user": "galaxy",
        "site_job_uid": 7100,
        "site_folder": str(site),
        "cluster_scheduler": "slurm",
    }
    assert {name: worker.get(name) for name in wanted} == wanted
    executor = hostvars(site)["here-executor-1"]
    assert executor["fleet_volumes"]["db"]["size_gib"] == 5  # type: ignore[index]
    assert executor["ansible_user"] == "admin"


def test_ssh_is_told_how_to_reach_each_host(site: Path) -> None:
    arguments = str(hostvars(site)["here-worker-2"]["ansible_ssh_common_args"]).split()
    shown = subprocess.run(["ssh", *arguments, "-G", "192.0.2.22"], capture_output=True, text=True, check=True).stdout
    assert "port 2222\n" in shown
    assert "user ubuntu\n" in shown
    assert f"userknownhostsfile {site}/" in shown
    assert "stricthostkeychecking true\n" in shown


def test_hosts_without_a_public_address_are_reached_through_the_jump_host(site: Path) -> None:
    jump = "  gate: {groups: [jump_host], addresses: [{private: 10.0.0.5, public: 192.0.2.5}]}\n"
    (site / "here.fleet.yml").write_text(EXISTING + jump)
    assert ask(site, "-i", "here.fleet.yml", "--list").returncode == 0
    for host, through in (("here-worker-1", "here-gate-1"), ("here-worker-2", None), ("here-gate-1", None)):
        command = ["ssh", "-F", str(site / ".fleet" / "ssh_config"), "-G", host]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert (f"proxyjump {through}\n" in shown) if through else ("proxyjump" not in shown)


def test_sites_with_the_same_private_addresses_do_not_share_open_connections(site: Path) -> None:
    other = site / "other"
    other.mkdir()
    (other / "here.fleet.yml").write_text(EXISTING)
    folders = {str(hostvars(folder)["here-worker-1"]["ansible_control_path_dir"]) for folder in (site, other)}
    assert len(folders) == 2


def test_composed_variables_and_groups_work_as_in_every_inventory(site: Path) -> None:
    (site / "here.fleet.yml").write_text(
        EXISTING + "compose: {label: fleet_machine ~ '/' ~ fleet_index}\n"
        "groups: {reachable: fleet_public_address != ''}\n"
        "keyed_groups: [{key: fleet_machine, prefix: machine}]\n"
    )
    found = listed(site)
    assert "worker/2" in str(found["_meta"]["hostvars"]["here-worker-2"])
    assert found["reachable"]["hosts"] == ["here-worker-2"]
    assert found["machine_worker"]["hosts"] == ["here-worker-1", "here-worker-2"]


def test_a_composed_variable_that_fails_is_passed_over_unless_strict(site: Path) -> None:
    path = site / "here.fleet.yml"
    path.write_text(EXISTING + "compose: {label: there_is_no_such_thing + 1}\n")
    assert "label" not in hostvars(site)["here-worker-1"]
    path.write_text(path.read_text() + "strict: true\n")
    outcome = ask(site, "-i", "here.fleet.yml", "--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true")
    assert outcome.returncode != 0


def test_all_mistakes_of_a_fleet_file_are_told(site: Path) -> None:
    (site / "here.fleet.yml").write_text(EXISTING.replace("ram: 2 GiB", "ram: 2 GIBB, rum: 1"))
    outcome = ask(site, "-i", "here.fleet.yml", "--graph")
    assert "defaults.ram" in outcome.stderr
    assert "defaults.rum" in outcome.stderr


def test_the_site_opens_its_own_vault(site: Path) -> None:
    variables = site / "group_vars" / "all"
    variables.mkdir(parents=True)
    (site / ".vault-password").write_text("a password of the site\n")
    (variables / "vault.yml").write_text("vault_thing: opened\n")
    subprocess.run(
        ["ansible-vault", "encrypt", "--vault-password-file", ".vault-password", "group_vars/all/vault.yml"],
        cwd=site, check=True, capture_output=True,
    )  # fmt: skip
    assert hostvars(site)["here-worker-1"]["vault_thing"] == "opened"


def test_no_text_of_a_fleet_file_or_a_cloud_is_taken_for_a_template(site: Path) -> None:
    odd = site / "{{ 6 * 7 }}"
    odd.mkdir()
    (odd / "here.fleet.yml").write_text(EXISTING)
    (odd / "show.yml").write_text(
        "- hosts: here-worker-1\n  gather_facts: false\n  tasks: [{ansible.builtin.debug: {var: site_folder}}]\n"
    )
    clean = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(COLLECTION.parents[2]),
    }
    shown = subprocess.run(
        ["ansible-playbook", "-i", "here.fleet.yml", "show.yml"], cwd=odd, env=clean, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert str(odd) in shown.stdout, shown.stdout + shown.stderr


def test_a_thousand_hosts_are_listed_in_seconds(site: Path) -> None:
    many = "\n".join(f"      - 10.1.{number // 250}.{number % 250 + 1}" for number in range(1000))
    (site / "here.fleet.yml").write_text(EXISTING + f"  many:\n    groups: [normal]\n    addresses:\n{many}\n")
    assert len(hostvars(site)) == 1003
