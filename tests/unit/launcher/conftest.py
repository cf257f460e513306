"""The launcher as a module, a site's configuration, and a Docker that only writes down what it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from launcher_program import Docker, load_launcher


@pytest.fixture
def launcher() -> ModuleType:
    """Give the launcher as a module of its own, so that a test may change its constants."""
    return load_launcher()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Give a shared directory."""
    path = tmp_path / "database"
    path.mkdir()
    return path


@pytest.fixture
def config(launcher: ModuleType, shared: Path, tmp_path: Path) -> object:
    """Give the configuration of a site with one registry."""
    return launcher.Config(
        registries=("lab-registry-1:5000",), shared_dirs=(str(shared),), uid=7100, gid=7100, docker_root=str(tmp_path)
    )


@pytest.fixture
def docker(launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """Give the Docker that the launcher calls."""
    folder = tmp_path / "docker-program"
    folder.mkdir()
    double = Docker(folder)
    monkeypatch.setattr(launcher, "DOCKER", str(double.program))
    monkeypatch.setattr(launcher, "LAUNCHES", tmp_path / "launches")
    return double


@pytest.fixture
def call(launcher: ModuleType, config: object, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Give a function that calls the launcher as job 12 would: its exit code."""
    monkeypatch.setattr(launcher.Config, "load", lambda _path: config)
    monkeypatch.setattr(launcher, "calling_job", lambda _proc, _pid: "12")
    for name in ("SUDO_UID", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: launcher.main(arguments)
