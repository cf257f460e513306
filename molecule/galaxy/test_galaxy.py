"""What two instances of Galaxy on one host do, and what they cannot do to each other."""

from __future__ import annotations

import json
import time

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://executor"]
PORTS = {"first": 8080, "second": 8081}


def ask(host: Host, port: int, path: str) -> dict:
    """Ask an instance on the host itself; gives {} while it does not answer."""
    script = (
        f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}{path}', timeout=30).read().decode())"
    )
    answer = host.run(f'python3 -c "{script}"')
    return json.loads(answer.stdout) if answer.rc == 0 else {}


@pytest.mark.parametrize("port", PORTS.values(), ids=PORTS)
def test_each_instance_answers_with_the_locked_version(host: Host, port: int) -> None:
    version = ask(host, port, "/api/version")
    assert (version["version_major"], version["version_minor"]) == ("26.1", "2")


def test_each_instance_has_its_own_configuration(host: Host) -> None:
    brands = [ask(host, port, "/api/configuration")["brand"] for port in PORTS.values()]
    assert brands[1] == "The second one"
    assert brands[0] != brands[1]


def test_instances_share_one_installation(host: Host) -> None:
    with host.sudo():
        assert len(host.check_output("ls -d /opt/galaxy/venv-*/").split()) == 1


def test_the_account_of_an_instance_cannot_change_the_code_that_it_runs(host: Host) -> None:
    with host.sudo("galaxy-first"):
        assert host.check_output("find /opt/galaxy -writable -not -type l | head -1") == ""


@pytest.mark.parametrize("file", ["galaxy.yml", "gravity.yml", "secrets.env"])
def test_an_instance_cannot_read_the_configuration_of_the_other(host: Host, file: str) -> None:
    with host.sudo("galaxy-second"):
        assert host.run(f"cat /etc/galaxy/first/{file}").rc != 0


def test_no_file_that_the_account_can_read_holds_a_secret(host: Host) -> None:
    secret = host.ansible.get_variables()["vault_executor_id_secret"]
    with host.sudo():
        found = host.run(f"grep -rl -e '{secret}' /etc /var/lib/galaxy").stdout.split()
    assert found == ["/etc/galaxy/first/secrets.env"]
    with host.sudo("galaxy-first"):
        assert host.run("cat /etc/galaxy/first/secrets.env").rc != 0


def test_the_database_lets_in_its_own_instance_only(host: Host) -> None:
    with host.sudo("galaxy-first"):
        assert host.run("psql -d galaxy_first -c 'select count(*) from job'").rc == 0
        other = host.run("psql -d galaxy_second -c 'select 1'")
    assert other.rc != 0
    assert "permission denied" in other.stderr


def test_instances_listen_on_the_address_that_they_were_given_only(host: Host) -> None:
    with host.sudo():
        listening = host.check_output("ss -Hltn").splitlines()
    addresses = {line.split()[3] for line in listening}
    assert {"127.0.0.1:8080", "127.0.0.1:8081"} <= addresses
    assert not {address for address in addresses if address.endswith((":8080", ":8081"))} - {
        "127.0.0.1:8080",
        "127.0.0.1:8081",
    }


def test_instances_start_at_boot(host: Host) -> None:
    for instance in PORTS:
        assert host.service(f"galaxy-{instance}.target").is_enabled


def test_an_instance_that_is_killed_comes_back_and_the_other_stays(host: Host) -> None:
    def process(instance: str) -> str:
        return host.check_output(f"systemctl show -p MainPID --value galaxy-{instance}-gunicorn.service")

    first, second = process("first"), process("second")
    with host.sudo():
        host.check_output(f"kill -9 {first}")
    # its last child may answer for a moment
    for _attempt in range(180):
        if process("first") not in {"0", first} and ask(host, PORTS["first"], "/api/version"):
            break
        time.sleep(1)
    assert process("first") not in {"0", first}
    assert ask(host, PORTS["first"], "/api/version")
    assert process("second") == second
