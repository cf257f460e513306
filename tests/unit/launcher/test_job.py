"""Which job is calling, and what it was given."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a process of root is made by root only")


def process(proc: Path, pid: int, parent: int, command: str, *, program: str = "/usr/bin/bash", uid: int = 0) -> None:
    """Lay down a process as /proc shows it."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} (a) b) S {parent} 1 1 0 -1")
    (folder / "cmdline").write_bytes(command.encode() + b"\0")
    (folder / "exe").symlink_to(program)
    if os.geteuid() == 0:
        os.chown(folder, uid, uid)


@needs_root
@pytest.mark.parametrize(
    "program", ["/usr/sbin/slurmstepd", "/usr/sbin/slurmstepd-wlm", "/usr/sbin/slurmstepd-wlm (deleted)"]
)
def test_the_job_is_the_one_of_the_step_daemon_above(launcher: ModuleType, tmp_path: Path, program: str) -> None:
    process(tmp_path, 10, 1, "slurmstepd: [77.batch]", program=program)
    process(tmp_path, 11, 10, "/bin/bash /var/spool/slurmd/job00077/slurm_script", uid=7100)
    process(tmp_path, 12, 11, "sudo component-launcher run")
    process(tmp_path, 13, 12, "python3 component-launcher run")
    assert launcher.calling_job(tmp_path, 13) == "77"
    assert launcher.running_jobs(tmp_path) == {"77"}


@needs_root
@pytest.mark.parametrize(
    ("program", "uid"),
    [
        ("/srv/omtd/database/slurmstepd", 0),
        ("/usr/sbin/slurmstepd", 7100),
        ("/usr/bin/python3.11", 7100),
        ("/usr/sbin/sshd", 0),
    ],
    ids=["another program", "another owner", "both", "a daemon of root that is not Slurm's"],
)
def test_a_process_that_only_calls_itself_step_daemon_is_none(
    launcher: ModuleType, tmp_path: Path, program: str, uid: int
) -> None:
    process(tmp_path, 10, 1, "slurmstepd: [77.batch]", program=program, uid=uid)
    process(tmp_path, 13, 10, "python3 component-launcher run")
    with pytest.raises(launcher.RefusedError, match="not in a Slurm job"):
        launcher.calling_job(tmp_path, 13)


@needs_root
def test_the_nearest_step_daemon_counts(launcher: ModuleType, tmp_path: Path) -> None:
    process(tmp_path, 10, 1, "slurmstepd: [77.batch]", program="/usr/sbin/slurmstepd")
    process(tmp_path, 20, 10, "slurmstepd: [78.0]", program="/usr/sbin/slurmstepd")
    process(tmp_path, 21, 20, "python3")
    assert launcher.calling_job(tmp_path, 21) == "78"


def test_outside_of_jobs_nothing_is_started(launcher: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(launcher.RefusedError, match="not in a Slurm job"):
        launcher.calling_job(Path("/proc"), os.getpid())


def test_a_process_that_ends_meanwhile_is_no_error(launcher: ModuleType, tmp_path: Path) -> None:
    process(tmp_path, 13, 12, "python3")
    with pytest.raises(launcher.RefusedError, match="not in a Slurm job"):
        launcher.calling_job(tmp_path, 13)


@pytest.mark.parametrize(
    ("environment", "mebibytes"),
    [
        ({}, None),
        ({"SLURM_MEM_PER_NODE": "512"}, 512),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_CPU": "256"}, 256),
        ({"SLURM_MEM_PER_CPU": "256", "SLURM_CPUS_ON_NODE": "4"}, 1024),
        ({"SLURM_MEM_PER_NODE": "-5"}, None),
        ({"SLURM_MEM_PER_NODE": "1; rm -rf /"}, None),
        ({"SLURM_MEM_PER_NODE": "٣"}, None),
    ],
)
def test_the_memory_of_the_job_is_read(
    launcher: ModuleType, environment: dict[str, str], mebibytes: int | None
) -> None:
    assert launcher.allocated_bytes(environment) == (mebibytes and mebibytes * 1024**2)


@pytest.mark.parametrize(
    ("cgroups", "group"),
    [
        (
            "4:memory:/slurm/uid_7100/job_77/step_batch/task_0\n0::/system.slice/slurmd.service\n",
            "/slurm/uid_7100/job_77/step_batch/task_0",
        ),
        (
            "0::/system.slice/slurmstepd.scope/job_77/step_batch/user/task_0\n",
            "/system.slice/slurmstepd.scope/job_77/step_batch",
        ),
        ("0::/system.slice/slurmstepd.scope/job_78/step_batch/user/task_0\n", None),
        ("9:name=systemd:/system.slice/slurmd.service\n0::/\n", None),
        ("", None),
    ],
)
def test_the_control_group_of_the_job_is_found(launcher: ModuleType, cgroups: str, group: str | None) -> None:
    assert launcher.job_cgroup(cgroups, "77") == group


def test_control_groups_that_only_docker_made_are_removed(
    launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "CGROUPS", tmp_path)
    job = "slurm_worker/uid_7100/job_77"
    (tmp_path / "pids" / job / "step_batch").mkdir(parents=True)
    (tmp_path / "memory" / job / "step_batch" / "task_0" / "container").mkdir(parents=True)
    (tmp_path / "pids" / job.replace("77", "78") / "step_batch").mkdir(parents=True)
    launcher.remove_empty_cgroups("77")
    assert not (tmp_path / "pids" / job).exists()
    assert (tmp_path / "memory" / job / "step_batch" / "task_0").exists()
    assert (tmp_path / "pids" / job.replace("77", "78") / "step_batch").exists()


# ---------------------------------------------------------------- the configuration

GOOD = '{"registries": ["r:5000"], "shared_dirs": ["/srv"], "uid": 7100, "gid": 7100}'


@needs_root
def test_a_configuration_of_root_is_read(launcher: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(GOOD)
    path.chmod(0o644)
    config = launcher.Config.load(path)
    assert (config.registries, config.uid, config.networks, config.job_cgroups) == (("r:5000",), 7100, ("none",), False)


@needs_root
@pytest.mark.parametrize(("mode", "owner"), [(0o664, 0), (0o646, 0), (0o644, 7100)])
def test_a_configuration_that_others_may_write_is_refused(
    launcher: ModuleType, tmp_path: Path, mode: int, owner: int
) -> None:
    path = tmp_path / "config.json"
    path.write_text(GOOD)
    path.chmod(mode)
    os.chown(path, owner, 0)
    with pytest.raises(launcher.RefusedError, match="others than root"):
        launcher.Config.load(path)


@needs_root
@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "nonsense", GOOD.replace('"uid": 7100', '"uid": 0'), GOOD.replace("7100", '"x"')]
)
def test_a_broken_configuration_names_its_file(launcher: ModuleType, tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    path.chmod(0o644)
    with pytest.raises(launcher.RefusedError, match=r"config\.json"):
        launcher.Config.load(path)
