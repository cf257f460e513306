# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no container: choices by what the computer is, locks, and what is believed of podman's answers."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base, local, podman, podman_image

V1 = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\nproc /proc proc rw 0 0\n"
HYBRID = V1 + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\nproc /proc proc rw 0 0\n"


# ------------------------------------------------------------------------------------------------ control groups


@pytest.mark.parametrize("mounts", [V1, HYBRID])
@pytest.mark.parametrize("has_systemd", [True, False])
def test_any_cgroup_v1_hierarchy_wants_runc_and_cgroupfs(mounts: str, has_systemd: bool) -> None:
    assert podman.engine_options(mounts, has_systemd) == ["--runtime", "runc", "--cgroup-manager", "cgroupfs"]


def test_cgroup_v2_alone_leaves_the_choice_to_podman() -> None:
    assert podman.engine_options(V2, has_systemd=True) == []


def test_cgroup_v2_without_systemd_cannot_use_the_systemd_manager() -> None:
    assert podman.engine_options(V2, has_systemd=False) == ["--cgroup-manager", "cgroupfs"]


def test_missing_packages_are_found_by_what_they_bring() -> None:
    wanted = {"there": ("no-such-command", sys.executable), "lacking": ("no-such-command",)}
    assert local.missing(wanted) == ["lacking"]


# ------------------------------------------------------------------------------------------------------- the image

PIP = """[global]
cert = /opt/ca.pem
index-url = https://packages.example/simple
extra-index-url = file:///opt/pypi/simple
 https://more.example/simple
find-links = /opt/wheels
"""


def test_settings_of_pip_come_along_without_folders_of_this_computer(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(PIP, encoding="utf-8")
    assert podman_image.pip_settings([file, tmp_path / "none"]) == (
        "[global]\n"
        "cert = /etc/ssl/certs/ca-certificates.crt\n"
        "index-url = https://packages.example/simple\n"
        "extra-index-url = https://more.example/simple\n"
    )


def test_the_image_is_another_one_when_its_recipe_is() -> None:
    one = podman_image.Recipe("bookworm", "deb x bookworm main\n", {"/etc/a": "1"})
    same = podman_image.Recipe("bookworm", "deb x bookworm main\n", {"/etc/a": "1"})
    other = podman_image.Recipe("bookworm", "deb x bookworm main\n", {"/etc/a": "2"})
    assert one.image == same.image
    assert one.image != other.image
    assert one.image.startswith("localhost/omtd-machine:bookworm-")


class Apt(local.Computer):
    """A computer whose apt lists what it is told."""

    def __init__(self, listed: str) -> None:
        super().__init__()
        self.listed = listed

    def run(self, command, purpose, **more):  # type: ignore[no-untyped-def]
        return self.listed


def test_machines_of_another_release_come_from_the_computers_own_mirror() -> None:
    listed = (
        "http://mirror.example/debian/ bookworm main\nhttp://mirror.example/debian/ bookworm-updates main\n"
        "http://mirror.example/security/ bookworm-security main\nhttp://mirror.example/debian/ bookworm contrib\n"
    )
    assert podman_image.sources("trixie", Apt(listed)) == (
        "deb http://mirror.example/debian/ trixie main\n"
        "deb http://mirror.example/debian/ trixie-updates main\n"
        "deb http://mirror.example/security/ trixie-security main\n"
    )


def test_a_computer_without_debian_packages_is_told_what_it_lacks() -> None:
    with pytest.raises(base.CloudUnavailableError, match="apt knows no Debian packages"):
        podman_image.sources("bookworm", Apt(""))


# --------------------------------------------------------------------------------------------- podman's answers


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"addresses": [], "vcpus": "many", "volumes": {}}', '"x"'])
def test_a_label_that_somebody_else_wrote_is_not_believed(text: str) -> None:
    assert podman._wanted(text) == {
        "image": "", "vcpus": 0, "ram_mib": 0, "disk_gib": 0, "addresses": {}, "volumes": [], "metadata": {},
    }  # fmt: skip


@pytest.mark.parametrize(("text", "number"), [("5", 5), ("", 0), (None, 0), ("-1", 0), ("²", 0), ("x", 0)])
def test_a_number_in_a_label_is_a_number_or_nothing(text: object, number: int) -> None:
    assert podman._number(text) == number


def test_keys_are_handed_over_with_their_owners_and_modes() -> None:
    archive = podman._archive([podman._File("a/key", "secret", 0o600, 1000), podman._File("a/b", None, 0o700)])
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        key, folder = opened.getmembers()
        assert (key.mode, key.uid, key.gid, key.size) == (0o600, 1000, 1000, 6)
        assert folder.isdir()


# ---------------------------------------------------------------------------------------------------------- locks


def hold(folder: Path, seconds: int, expires: int = 60) -> subprocess.Popen[str]:
    """Another process that takes the lock, says so and waits."""
    program = (
        "import sys, time; from pathlib import Path\n"
        "from ansible_collections.omtd.workflow.plugins.module_utils.clouds.local import HostLock\n"
        f"HostLock('lab', 'mary@desk', {expires}, Path({str(folder)!r}))\n"
        f"print('held', flush=True); time.sleep({seconds})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_operator_is_told_who_the_first_is(tmp_path: Path) -> None:
    with hold(tmp_path, 30) as other:
        try:
            with pytest.raises(base.CloudError, match=r"site lab: mary@desk is changing it at the moment"):
                local.HostLock("lab", "john@desk", 60, tmp_path)
        finally:
            other.kill()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    with hold(tmp_path, 30) as other:
        other.kill()
        other.wait()
    local.HostLock("lab", "john@desk", 60, tmp_path).release()


def test_a_lock_ends_when_it_expires_and_its_first_holder_is_told(tmp_path: Path) -> None:
    with hold(tmp_path, 30, expires=0) as other:
        try:
            mine = local.HostLock("lab", "john@desk", 60, tmp_path)
            mine.renew()
            mine.release()
        finally:
            other.kill()
    expired = local.HostLock("lab", "john@desk", 0, tmp_path)
    with hold(tmp_path, 30) as other:
        try:
            with pytest.raises(base.CloudError, match="mary@desk took the lock"):
                expired.renew()
        finally:
            other.kill()


def test_two_sites_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with hold(tmp_path, 30) as other:
        try:
            local.HostLock("testing", "john@desk", 60, tmp_path).release()
        finally:
            other.kill()


def test_a_damaged_lock_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "lab.lock").write_text("{half", encoding="utf-8")
    local.HostLock("lab", "john@desk", 60, tmp_path).release()


def test_the_next_run_waits_for_commands_that_a_killed_one_left(tmp_path: Path) -> None:
    stragglers = tmp_path / "commands"
    computer = local.Computer(straggler_lock=stragglers)
    program = (
        "from pathlib import Path\n"
        "from ansible_collections.omtd.workflow.plugins.module_utils.clouds.local import Computer\n"
        f"Computer(straggler_lock=Path({str(stragglers)!r})).run(['sleep', '2'], 'sleep', changes=True)"
    )
    killed = subprocess.Popen([sys.executable, "-c", program])
    while not stragglers.exists():
        time.sleep(0.05)
    time.sleep(0.2)
    killed.kill()
    killed.wait()
    lock = local.HostLock("lab", "john@desk", 60, tmp_path)
    told: list[str] = []
    lock.wait_for_stragglers(stragglers, told.append)
    assert told == ["waits for commands of a run that was stopped"]
    computer.run(["true"], "do nothing", changes=True)
    lock.release()


def test_a_failing_command_tells_what_it_was_for() -> None:
    with pytest.raises(base.CloudError, match="sh: cannot make the tea: no water"):
        local.Computer().run(["sh", "-c", "echo 'level=warning hot' >&2; echo 'no water' >&2; exit 3"], "make the tea")


def test_a_command_that_does_not_end_is_ended() -> None:
    with pytest.raises(base.CloudError, match="did not end in 1 s"):
        local.Computer().run(["sleep", "20"], "sleep", limit_seconds=1)
