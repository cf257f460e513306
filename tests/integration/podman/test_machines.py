# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site on podman from its making to its end, as an operator meets it."""

from __future__ import annotations

import json
import shutil
import time

from podman_site import SITE, Site, podman

MASTER, WORKER = f"{SITE}-master-1", f"{SITE}-worker-1"


def test_a_site_is_made_checked_repeated_and_taken_away(site: Site) -> None:
    checked = site.ansible("provision", "--check")
    assert checked.returncode == 0, checked.stdout
    assert "create 1 network, create 4 volumes, create 2 machines" in checked.stdout
    assert site.inventory()["machines"] == []

    made = site.ansible("provision")
    assert made.returncode == 0, made.stdout
    assert f"machine {WORKER}: is ready" in made.stdout
    assert "[9/9]" in made.stdout, "progress counts to its end"

    again = site.ansible("provision")
    assert "changed=0" in again.stdout, again.stdout

    unconfirmed = site.ansible("teardown")
    assert unconfirmed.returncode != 0
    assert f"write confirm: {SITE} to mean it" in unconfirmed.stdout
    assert site.inventory()["machines"] == [MASTER, WORKER]

    gone = site.ansible("teardown", "-e", f"confirm={SITE}")
    assert gone.returncode == 0, gone.stdout
    kept = [f"omtd-{SITE}--shared-database", f"omtd-{SITE}-worker-1--data"]
    assert site.inventory() == {"machines": [], "networks": [], "volumes": kept}


def test_data_outlive_their_machine_and_are_shared_where_the_file_says_so(site: Site) -> None:
    site.converge()
    written = site.ssh(WORKER, "echo text | sudo tee /srv/data/kept /srv/omtd/database/shared /var/tmp/lost")
    assert written.returncode == 0, written.stderr
    assert site.ssh(MASTER, "cat /srv/omtd/database/shared").stdout == "text\n"
    replaced = site.ansible("provision", "-e", f"replace={WORKER}")
    assert replaced.returncode == 0, replaced.stdout
    assert site.ssh(WORKER, "cat /srv/data/kept; ls /var/tmp/lost").stdout == "text\n"


def test_a_machine_is_no_way_to_the_computer(site: Site) -> None:
    site.converge()
    before = time.time()
    attempts = {
        "set the clock": "sudo date -s 2020-01-01",
        "read a disk of the computer": "sudo mknod /tmp/disk b 254 0; sudo mknod /tmp/sda b 8 0; "
        "sudo head -c 1 /tmp/disk || sudo head -c 1 /tmp/sda",
        "read the computer's memory": "sudo mknod /tmp/mem c 1 1; sudo head -c 1 /tmp/mem",
        "change a setting of the kernel": "sudo sysctl -w kernel.panic=7",
        "read the kernel's log": "sudo dmesg",
        # EPERM, or ENOSYS from a kernel that has no modules at all
        "load a module": "sudo python3 -c 'import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); "
        'assert libc.syscall(175, b"", 0, b"") == 0 or ctypes.get_errno() not in (1, 38)\'',
    }
    for what, command in attempts.items():
        assert site.ssh(WORKER, command).returncode != 0, f"a machine may {what}"
    assert abs(time.time() - before) < 120
    assert site.ssh(WORKER, "lsblk --noheadings; cat /proc/partitions; ls /sys/block").stdout.strip() == ""


def test_a_machine_runs_all_its_units_and_has_the_limits_of_the_file(site: Site) -> None:
    site.converge()
    state = site.ssh(WORKER, "systemctl is-system-running --wait; systemctl --failed --no-legend")
    assert state.stdout.strip() == "running", state.stdout
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert int(site.ssh(WORKER, limit).stdout) == 256 * 2**20


def test_only_the_machines_own_keys_are_known_in_the_end(site: Site) -> None:
    site.converge()
    lines = (site.folder / ".fleet" / "known_hosts").read_text(encoding="utf-8").splitlines()
    assert {line.split(",")[0] for line in lines} == {MASTER, WORKER}
    assert all(" omtd:own:" in line for line in lines)
    own = site.ssh(WORKER, "cat /etc/ssh/ssh_host_*_key.pub").stdout
    for line in lines:
        assert not line.startswith(WORKER) or line.split()[2] in own


def test_a_site_folder_that_lost_its_keys_gets_new_ones(site: Site) -> None:
    site.converge()
    shutil.rmtree(site.folder / ".fleet")
    said = site.converge()
    assert "contact" not in said
    assert f"machine {WORKER}: is ready" in said
    assert site.ssh(WORKER, "hostname").stdout.strip() == WORKER


def test_a_stopped_machine_is_started_again(site: Site) -> None:
    site.converge()
    podman("stop", "--time", "3", WORKER)
    assert f"machine {WORKER}: runs" in site.converge()
    assert site.ssh(WORKER, "hostname").stdout.strip() == WORKER


def test_a_container_with_our_name_is_left_alone(site: Site) -> None:
    site.converge()
    image = json.loads(podman("inspect", WORKER))[0]["ImageName"]
    podman("rm", "--force", "--time", "1", WORKER)
    podman("create", "--name", WORKER, image, "true")
    try:
        said = site.converge(expected=1)
        assert f"machine {WORKER}: exists already and is not of the site {SITE}" in said
        assert json.loads(podman("inspect", WORKER))[0]["Config"]["Labels"].get("omtd_site") is None
    finally:
        podman("rm", "--force", WORKER)


def test_user_data_run_once(site: Site) -> None:
    site.content["machines"]["worker"]["user_data"] = "#!/bin/sh\necho once >> /var/tmp/user-data\n"
    site.write()
    site.converge()
    shutil.rmtree(site.folder / ".fleet")
    site.converge()
    assert site.ssh(WORKER, "cat /var/tmp/user-data").stdout == "once\n"


def test_the_second_of_two_operators_is_told_who_is_at_work(site: Site) -> None:
    with site.start() as first:
        time.sleep(1.5)
        log = site.log
        site.log = site.folder / "second.log"
        said = site.converge(expected=1)
        assert "is changing it at the moment" in said
        site.log = log
        assert first.wait(timeout=120) == 0
