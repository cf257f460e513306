"""What the launcher does with Docker, from the call of a job to its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from launcher_program import SOURCE, Docker

IMAGE = "lab-registry-1:5000/tf-keywords:1.0"
Call = Callable[..., int]
Said = pytest.CaptureFixture[str]
# how docker.io 20.10 begins
FROM_DAEMON = "Error response from daemon: "
GET = 'Get "https://lab-registry-1:5000/v2/":'


@pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 137, 255])
def test_the_exit_code_is_the_components(call: Call, docker: Docker, code: int) -> None:
    docker.answer("run", f"exit {code}")
    assert call("run", IMAGE, "true") == code


def test_the_containers_job_is_on_its_label(call: Call, docker: Docker) -> None:
    call("run", IMAGE)
    assert "omtd.job=12" in docker.calls_of("run")[0]


def test_an_image_that_is_there_is_not_pulled(call: Call, docker: Docker) -> None:
    call("run", IMAGE)
    assert docker.calls_of("pull") == []


def test_a_missing_image_is_pulled_first(call: Call, docker: Docker) -> None:
    docker.answer("image-inspect", "exit 1")
    assert call("run", IMAGE) == 0
    assert docker.calls_of("pull") == [["pull", "--quiet", IMAGE]]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            f"{FROM_DAEMON}manifest for {IMAGE} not found: manifest unknown",
            "does not exist in the registry lab-registry-1",
        ),
        (f"{FROM_DAEMON}{GET} dial tcp 172.31.77.5:5000: connect: connection refused", "does not answer"),
        (f"{FROM_DAEMON}{GET} no basic auth credentials", "does not let this node in"),
        (f"{FROM_DAEMON}{GET} x509: certificate signed by unknown authority", "is not trusted here"),
        ("write /var/lib/docker/tmp/GetImageBlob123: no space left on device", "there is no room"),
        ("Cannot connect to the Docker daemon. Is the docker daemon running?", "Docker does not run"),
        ("something that nobody has seen", "cannot be pulled: something that nobody has seen"),
    ],
)
def test_the_job_learns_why_an_image_cannot_be_had(
    call: Call, docker: Docker, capfd: Said, words: str, reason: str
) -> None:
    docker.answer("image-inspect", "exit 1")
    docker.answer("pull", f"echo '{words}' >&2; exit 1")
    assert call("run", IMAGE) == 125
    error = capfd.readouterr().err
    assert error.startswith(f"component-launcher: image {IMAGE}: ")
    assert reason in error
    assert error.count("\n") == 1
    assert docker.calls_of("run") == []


def test_a_job_gets_no_more_memory_than_slurm_gave_it(
    call: Call, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def memory_of(*options: str) -> str:
        call("run", *options, IMAGE)
        words = docker.calls_of("run")[-1]
        assert words[words.index("--memory") + 1] == words[words.index("--memory-swap") + 1]
        return words[words.index("--memory") + 1]

    assert memory_of("-m", "4g") == str(4 * 1024**3)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    assert memory_of("-m", "4g") == str(1024**3)
    assert memory_of("-m", "512m") == str(512 * 1024**2)
    assert memory_of() == str(1024**3)


def test_a_container_that_docker_could_not_start_is_removed_and_said(call: Call, docker: Docker, capfd: Said) -> None:
    docker.answer("run", "echo 'docker: Error response from daemon: boom' >&2; exit 125")
    docker.answer("ps", 'here=$(dirname "$0"); [ -f "$here/gone" ] || { touch "$here/gone"; echo abc; }')
    assert call("run", IMAGE) == 125
    error = capfd.readouterr().err
    assert "boom" in error
    assert "the container was not started on" in error
    assert docker.calls_of("rm") == [["rm", "--force", "--volumes", "abc"]]


def test_a_full_disk_is_named(
    call: Call, docker: Docker, launcher: ModuleType, capfd: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "FULL_DISK_MIB", 1 << 40)
    docker.answer("run", "exit 125")
    assert call("run", IMAGE) == 125
    assert f"there is no room in {docker.folder.parent}" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["build", "."],
        ["exec", "x", "sh"],
        ["cp", "x:/", "/"],
        ["login"],
        ["load"],
        ["save"],
        ["images"],
        ["rm"],
        ["--help"],
        ["-H", "x"],
    ],
)
def test_other_calls_never_reach_docker(call: Call, docker: Docker, capfd: Said, arguments: list[str]) -> None:
    assert call(*arguments) == 125
    assert "the calls that Galaxy makes" in capfd.readouterr().err
    assert docker.calls() == []


def test_a_refused_call_never_reaches_docker(call: Call, docker: Docker, capfd: Said) -> None:
    assert call("run", "-v", "/etc:/etc", IMAGE) == 125
    assert call("run", "--privileged", IMAGE) == 125
    assert call("pull", "busybox") == 125
    assert call("inspect", "docker.io/busybox") == 125
    assert docker.calls() == []
    assert capfd.readouterr().err.count("component-launcher: ") == 4


# ---------------------------------------------------------------- containers of this and of other jobs


@pytest.mark.parametrize("verb", [["kill"], ["kill", "-s", "TERM"], ["stop"], ["stop", "-t", "5"], ["inspect"]])
def test_a_job_reaches_its_own_containers(call: Call, docker: Docker, verb: list[str]) -> None:
    docker.answer("container-inspect", "echo 'f00d 12'")
    assert call(*verb, "c1") == 0
    assert docker.calls()[-1][-1] == "f00d"


@pytest.mark.parametrize("verb", [["kill"], ["kill", "-s", "TERM"], ["stop"], ["inspect"]])
@pytest.mark.parametrize(
    "answer", ["echo 'f00d 13'", "echo 'f00d '", "echo 'f00d <no value>'", "echo 'No such container' >&2; exit 1"]
)
def test_a_job_does_not_reach_other_containers(
    call: Call, docker: Docker, capfd: Said, verb: list[str], answer: str
) -> None:
    docker.answer("container-inspect", answer)
    assert call(*verb, "c1") == 125
    assert "job 12 has no such container" in capfd.readouterr().err
    assert len(docker.calls()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["kill"],
        ["kill", "a", "b"],
        ["kill", "--all"],
        ["kill", "-s", "x;y", "a"],
        ["stop", "-t", "-1", "a"],
        ["inspect", "--size", "a"],
        ["inspect"],
        ["pull"],
        ["pull", "--all-tags", IMAGE],
    ],
)
def test_calls_of_another_form_never_reach_docker(call: Call, docker: Docker, arguments: list[str]) -> None:
    assert call(*arguments) == 125
    assert docker.calls() == []


def test_an_image_is_described(call: Call, docker: Docker, capfd: Said) -> None:
    docker.answer("image-inspect", "echo '[{}]'")
    assert call("inspect", IMAGE) == 0
    assert capfd.readouterr().out == "[{}]\n"


# ---------------------------------------------------------------- what jobs leave behind


def test_the_epilog_removes_what_its_job_left(call: Call, docker: Docker, launcher: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "launches" / "12-killed").mkdir(parents=True)
    (tmp_path / "launches" / "123-other").mkdir()
    docker.answer("ps", 'here=$(dirname "$0"); [ -f "$here/gone" ] || { touch "$here/gone"; echo abc def; }')
    assert call("remove-leftovers", "12") == 0
    assert docker.calls_of("ps")[0][-1] == "label=omtd.job=12"
    assert docker.calls_of("rm") == [["rm", "--force", "--volumes", "abc", "def"]]
    assert [path.name for path in (tmp_path / "launches").iterdir()] == ["123-other"]


def test_the_health_check_spares_jobs_that_run(
    call: Call, docker: Docker, launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "running_jobs", lambda _proc: {"12"})
    docker.answer("ps", 'case "$*" in *--format*) echo 12; echo 13;; esac')
    for name in ("12-running", "14-killed"):
        (tmp_path / "launches" / name).mkdir(parents=True)
    assert call("remove-leftovers") == 0
    looked_for = {call[-1] for call in docker.calls_of("ps") if "--format" not in call}
    assert looked_for == {"label=omtd.job=13", "label=omtd.job=14"}
    assert [path.name for path in (tmp_path / "launches").iterdir()] == ["12-running"]


def test_jobs_cannot_remove_leftovers(call: Call, docker: Docker, capfd: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "7100")
    assert call("remove-leftovers", "13") == 125
    assert docker.calls() == []


def test_removing_ends_even_if_docker_always_finds_another(launcher: ModuleType, docker: Docker) -> None:
    docker.answer("ps", "echo abc")
    launcher.remove_by_label("omtd.job=12")
    assert len(docker.calls_of("rm")) == 5


# ---------------------------------------------------------------- signals, to a launcher that is a process of its own

DRIVER = f"""
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("component_launcher", {str(SOURCE)!r})
launcher = importlib.util.module_from_spec(spec)
sys.modules["component_launcher"] = launcher
spec.loader.exec_module(launcher)
launcher.DOCKER, folder = sys.argv[1], pathlib.Path(sys.argv[2])
launcher.LAUNCHES = folder / "launches"
launcher.GRACE_SECONDS = 1
launcher.calling_job = lambda _proc, _pid: "12"
registries, folder_name = ("lab-registry-1:5000",), str(folder)
config = launcher.Config(registries, (folder_name,), uid=7100, gid=7100, docker_root=folder_name)
launcher.Config.load = lambda _path: config
sys.exit(launcher.main(["run", {IMAGE!r}, "sleep"]))
"""


def start(docker: Docker, folder: Path) -> subprocess.Popen[bytes]:
    """Start a launcher and wait until its container runs."""
    process = subprocess.Popen([sys.executable, "-c", DRIVER, str(docker.program), str(folder)])
    deadline = time.monotonic() + 20
    while not (docker.folder / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


LONG_RUN = 'touch "$(dirname "$0")/started"; sleep 60 & wait'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_the_container(docker: Docker, tmp_path: Path, number: signal.Signals) -> None:
    docker.answer("run", LONG_RUN)
    docker.answer("ps", 'here=$(dirname "$0"); [ -f "$here/gone" ] || { touch "$here/gone"; echo abc; }')
    process = start(docker, tmp_path)
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert docker.calls_of("rm") == [["rm", "--force", "--volumes", "abc"]]
    assert list((tmp_path / "launches").iterdir()) == []


def test_a_client_that_does_not_listen_is_killed(docker: Docker, tmp_path: Path) -> None:
    docker.answer("run", f"trap '' TERM; {LONG_RUN}; wait")
    process = start(docker, tmp_path)
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM


def test_after_sigkill_the_launch_tells_the_epilog(docker: Docker, tmp_path: Path) -> None:
    docker.answer("run", LONG_RUN)
    process = start(docker, tmp_path)
    process.kill()
    process.wait(20)
    assert [path.name[:3] for path in (tmp_path / "launches").iterdir()] == ["12-"]


def test_docker_sees_no_environment_of_the_job(call: Call, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    monkeypatch.setenv("DOCKER_CONFIG", "/srv/omtd/database")
    monkeypatch.setenv("LD_PRELOAD", "")
    docker.answer("run", 'env > "$(dirname "$0")/environment"')
    assert call("run", IMAGE) == 0
    names = {line.partition("=")[0] for line in (docker.folder / "environment").read_text().splitlines()}
    assert names - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "HOME", "LC_ALL"}


def test_the_program_runs_isolated_from_its_surroundings() -> None:
    assert SOURCE.read_text().splitlines()[0] == "#!/usr/bin/python3 -I"
    answer = subprocess.run(
        [SOURCE.as_posix()] if os.access(SOURCE, os.X_OK) else ["/usr/bin/python3", "-I", str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 125
    assert answer.stderr.startswith("component-launcher: nothing: not among run, inspect, pull, kill, stop")
