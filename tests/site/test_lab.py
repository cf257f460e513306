"""What somebody outside the lab can and cannot do with it, and what its machines cannot do to this computer."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
import requests

CONNECT_SECONDS = 3
CLOCK_2001 = "1000000000"


def opens(address: str, port: int) -> bool:
    """Say whether a TCP connection from this computer comes about."""
    try:
        with socket.create_connection((address, port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


def test_the_executor_answers_its_administrator(galaxy) -> None:
    assert galaxy.users.get_current_user()["is_admin"]


def test_the_executor_gives_strangers_nothing(first_host, variables) -> None:
    url = f"http://{variables(first_host('executor'))['ansible_host']}:8080/api/histories"
    assert requests.get(url, params={"key": "0" * 32}, timeout=30).status_code == 401


def test_the_registry_asks_everybody_for_a_login(site_folder: Path, first_host, variables) -> None:
    url = f"https://{variables(first_host('docker_registry'))['ansible_host']}:5000/v2/_catalog"
    ca = str(site_folder / "pki" / "ca.crt")
    assert requests.get(url, verify=ca, timeout=30).status_code == 401
    password = variables(first_host("docker_registry"))["vault_registry_pull_password"]
    assert requests.get(url, auth=("pull", password), verify=ca, timeout=30).status_code == 200


@pytest.mark.parametrize(
    ("group", "port"),
    [
        ("cluster_master", 6817),
        ("cluster_master", 6819),
        ("normal", 6818),
    ],
)
def test_ports_that_no_outsider_needs_are_closed(group: str, port: int, first_host, variables) -> None:
    address = variables(first_host(group))["ansible_host"]
    assert opens(address, 22)
    assert not opens(address, port)


def test_the_api_of_the_executor_is_closed_to_the_clusters_own_nodes(first_host, variables, host) -> None:
    address = variables(first_host("executor"))["fleet_private_address"]
    call = f"timeout {CONNECT_SECONDS} bash -c '</dev/tcp/{address}/8080'"
    assert opens(address, 8080), "this computer is one of the trusted networks"
    assert host(first_host("executor")).run(call).rc == 0
    assert host(first_host("normal")).run(call).rc == 124


def test_no_node_holds_code_of_galaxy(inventory, host) -> None:
    for group in ("normal", "heavyweight"):
        for name in inventory[group]["hosts"]:
            assert not host(name).file("/opt/galaxy").exists


def test_a_machine_cannot_set_the_clock_of_this_computer(first_host, host) -> None:
    asked = host(first_host("normal")).run(f"date --set=@{CLOCK_2001}")
    assert asked.rc != 0
    assert "Operation not permitted" in asked.stderr


def test_a_machine_cannot_open_the_block_devices_of_this_computer(first_host, host) -> None:
    numbers = next(Path("/sys/class/block").iterdir()).joinpath("dev").read_text().strip().replace(":", " ")
    machine = host(first_host("normal"))
    asked = machine.run(
        f"mknod /root/block b {numbers} && dd if=/root/block of=/dev/null bs=512 count=1; rm -f /root/block"
    )
    assert "Operation not permitted" in asked.stderr or "Permission denied" in asked.stderr


def test_check_mode_of_a_finished_site_predicts_no_change(site_folder: Path) -> None:
    command = ["ansible-playbook", "--check", "omtd.workflow.site"]
    run = subprocess.run(command, cwd=site_folder, stdout=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:]
    assert "changed=0" in run.stdout
    assert not [line for line in run.stdout.splitlines() if "changed=" in line and "changed=0 " not in line]
