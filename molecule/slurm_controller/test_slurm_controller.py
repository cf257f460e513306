"""What the controller does, and that it loses nothing when one of its parts fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://cluster_master"]


def until(what: Callable[[], bool], seconds: int = 60) -> bool:
    """Wait until something holds, so many seconds at most."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def answers(host: Host) -> bool:
    """Say whether the controller answers."""
    return "is UP" in host.run("scontrol ping").stdout


@pytest.fixture
def job(host: Host) -> Iterator[str]:
    """Submit a job that cannot start, for there is no node; cancel it at the end."""
    with host.sudo("galaxy"):
        number = host.check_output("cd / && sbatch --parsable --output=/dev/null --wrap=true")
    yield number
    with host.sudo():
        host.run(f"scancel {number}")


def state(host: Host, job: str) -> str:
    """Give what the controller says of a job."""
    return host.run(f"squeue --noheader --jobs {job} --format %T").stdout.strip()


def recorded(host: Host, job: str) -> str:
    """Give what accounting says of a job."""
    with host.sudo():
        return host.run(f"sacct --allocations --noheader --parsable2 --jobs {job} --format state").stdout.strip()


def test_the_controller_answers(host: Host) -> None:
    assert answers(host)


def test_the_cluster_is_registered_once(host: Host) -> None:
    with host.sudo():
        clusters = host.check_output("sacctmgr --noheader --parsable2 list cluster format=cluster,controlhost")
    assert clusters.splitlines() == ["m-slurm-controller|" + clusters.partition("|")[2]]


def test_what_became_of_a_job_is_recorded(host: Host, job: str) -> None:
    with host.sudo():
        host.check_output(f"scancel {job}")
    assert until(lambda: recorded(host, job).startswith("CANCELLED")), recorded(host, job)


def test_a_waiting_job_survives_a_restart_of_the_controller(host: Host, job: str) -> None:
    assert state(host, job) == "PENDING"
    with host.sudo():
        host.check_output("systemctl restart slurmctld")
    assert until(lambda: answers(host))
    assert state(host, job) == "PENDING"


def test_a_waiting_job_survives_a_killed_controller(host: Host, job: str) -> None:
    time.sleep(6)  # the controller saves its state every few seconds
    with host.sudo():
        host.check_output("systemctl kill --signal KILL slurmctld")
    assert until(lambda: answers(host))
    assert state(host, job) == "PENDING"


def test_nothing_is_lost_while_accounting_is_down(host: Host) -> None:
    with host.sudo():
        host.check_output("systemctl stop slurmdbd")
    with host.sudo("galaxy"):
        job = host.check_output("cd / && sbatch --parsable --output=/dev/null --wrap=true")
    with host.sudo():
        host.check_output(f"scancel {job}")
        host.check_output("systemctl start slurmdbd")
    assert until(lambda: recorded(host, job).startswith("CANCELLED"), 90), recorded(host, job)


def test_accounting_comes_back_when_it_is_killed(host: Host) -> None:
    with host.sudo():
        host.check_output("systemctl kill --signal KILL slurmdbd")
    assert until(lambda: host.run("sacctmgr --noheader list cluster").rc == 0)


def test_accounting_comes_back_after_its_database_was_away(host: Host) -> None:
    with host.sudo():
        host.check_output("systemctl restart mariadb")
    assert until(lambda: host.run("sacctmgr --noheader --parsable2 list cluster format=cluster").stdout.strip() != "")


def test_the_password_of_the_database_is_slurmdbds_alone(host: Host) -> None:
    assert host.run("cat /etc/slurm/slurmdbd.conf").rc != 0
    with host.sudo():
        configuration = host.file("/etc/slurm/slurmdbd.conf")
        assert (configuration.mode, configuration.user) == (0o600, "slurm")


def test_the_database_lets_nobody_in_without_the_password(host: Host) -> None:
    assert host.run("mariadb --user slurm slurm_acct -e 'select 1'").rc != 0
    assert host.run("mariadb --user slurm --password=slurm slurm_acct -e 'select 1'").rc != 0
    assert host.run("mariadb --user root -e 'select 1'").rc != 0


def test_the_database_is_not_on_the_network(host: Host) -> None:
    assert not host.socket("tcp://0.0.0.0:3306").is_listening


def test_other_accounts_see_no_secret_in_the_processes(host: Host) -> None:
    with host.sudo():
        password = host.check_output("sed -n 's/^StoragePass=//p' /etc/slurm/slurmdbd.conf")
    assert password
    assert password not in host.check_output("ps auxww")
