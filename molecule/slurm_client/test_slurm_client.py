"""What every host of a cluster has in common."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://testing_host"]


@pytest.fixture(scope="module")
def variables(host: Host) -> dict:
    """Give the host's inventory variables."""
    return host.ansible.get_variables()


@pytest.fixture(scope="module")
def master(host: Host, variables: dict) -> Host:
    """Give the controller's host."""
    return host.backend.ansible_runner.get_host(variables["groups"]["cluster_master"][0])


def test_a_credential_of_one_host_is_read_on_the_other(host: Host, master: Host) -> None:
    credential = host.check_output("printf hello | munge")
    assert re.fullmatch(r"MUNGE:[A-Za-z0-9+/=]+:", credential)
    read = master.run(f"printf '%s' '{credential}' | unmunge")
    assert read.rc == 0, read.stdout
    assert "Success" in read.stdout
    assert read.stdout.endswith("hello")


def test_a_credential_is_good_once(host: Host, master: Host) -> None:
    credential = host.check_output("munge --no-input")
    assert master.run(f"printf '%s' '{credential}' | unmunge").rc == 0
    assert "Replayed" in master.run(f"printf '%s' '{credential}' | unmunge").stdout


def test_a_credential_made_with_another_key_is_refused(host: Host, master: Host) -> None:
    with host.sudo():
        foreign = host.check_output(
            "set -e; d=$(mktemp -d); chown munge $d; chmod 755 $d; cd $d;"
            " head -c 64 /dev/urandom > key; chmod 400 key; chown munge key;"
            " runuser -u munge -- munged --key-file=$d/key --socket=$d/socket --pid-file=$d/pid --log-file=$d/log"
            " --seed-file=$d/seed;"
            " munge --no-input --socket=$d/socket; runuser -u munge -- munged --stop --socket=$d/socket >&2; rm -rf $d"
        )
    read = master.run(f"printf '%s' '{foreign}' | unmunge")
    assert read.rc != 0
    assert "Invalid credential" in read.stdout + read.stderr


def test_the_key_is_the_sites_and_mungeds_alone(host: Host, variables: dict) -> None:
    assert host.run("cat /etc/munge/munge.key").rc != 0
    with host.sudo():
        key = host.file("/etc/munge/munge.key")
        assert (key.mode, key.user, key.group) == (0o400, "munge", "munge")
        assert key.content_string == variables["vault_slurm_munge_key"]


def test_the_configuration_is_the_same_everywhere(host: Host, master: Host) -> None:
    assert host.file("/etc/slurm/slurm.conf").sha256sum == master.file("/etc/slurm/slurm.conf").sha256sum


def test_jobs_get_what_the_system_can_spare(host: Host, variables: dict) -> None:
    name = variables["groups"]["cluster_master"][0]
    node = next(line for line in host.file("/etc/slurm/slurm.conf").content_string.splitlines() if f"={name} " in line)
    assert "CPUs=1" in node
    assert "RealMemory=768" in node


def test_only_partitions_with_nodes_are_there(host: Host) -> None:
    assert re.findall(
        r"(?m)^PartitionName=(\S+).* Default=(\S+)", host.file("/etc/slurm/slurm.conf").content_string
    ) == [("normal", "YES")]


def test_jobs_run_as_the_same_number_everywhere(host: Host, master: Host) -> None:
    for each in (host, master):
        user = each.user("galaxy")
        assert (user.uid, user.gid, user.shell) == (7100, 7100, "/usr/sbin/nologin")
        assert user.groups == ["galaxy"]


def test_munge_comes_back_when_it_dies_of_a_restart_of_the_host(host: Host) -> None:
    assert host.service("munge").is_enabled
    assert host.service("munge").is_running


def test_the_commands_read_the_configuration(host: Host, variables: dict) -> None:
    answer = host.run("scontrol ping")
    assert "is DOWN" in answer.stdout + answer.stderr
    assert variables["groups"]["cluster_master"][0] in answer.stdout + answer.stderr
