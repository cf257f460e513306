# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL at any moment, then one more run: the same site as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from podman_site import SITE, Site, podman_list

ROUNDS = int(os.environ.get("OMTD_KILL_ROUNDS", "20"))
SEED = int(os.environ.get("OMTD_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
EXPECTED = {
    "machines": [f"{SITE}-master-1", f"{SITE}-worker-1"],
    "networks": [f"omtd-{SITE}"],
    "volumes": [
        f"omtd-{SITE}--shared-database",
        f"omtd-{SITE}-master-1--docker",
        f"omtd-{SITE}-worker-1--data",
        f"omtd-{SITE}-worker-1--docker",
    ],
}


def kill(site: Site, state: str, after_seconds: float, with_children: bool) -> str:
    """Starts a run and kills it: its whole process group, as Ctrl-\\ or a dying session does, or it alone, as the
    kernel does when memory runs out."""
    process = site.start(state)
    time.sleep(after_seconds)
    os.killpg(process.pid, signal.SIGKILL) if with_children else process.kill()
    process.wait()
    return site.said()


@pytest.fixture(scope="module")
def seconds_of_a_run(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long an undisturbed run takes: the moments to kill are spread over it. Makes the image, if need be."""
    site = Site(tmp_path_factory.mktemp("first"))
    site.converge("absent")
    site.converge()
    site.converge("absent")
    started = time.monotonic()
    site.converge()
    seconds = time.monotonic() - started
    site.converge("absent")
    return seconds


def test_a_run_that_was_killed_is_finished_by_the_next_one(site: Site, seconds_of_a_run: float) -> None:
    moments = random.Random(SEED)  # noqa: S311 - a test, and one that can be repeated
    print(f"OMTD_KILL_SEED={SEED}, {ROUNDS} rounds, a run takes {seconds_of_a_run:.1f} s")
    for number in range(ROUNDS):
        state = "absent" if number % 4 == 3 else "present"
        if state == "absent":
            site.converge()
        # Spread over the whole run: one moment in each of as many parts as there are rounds.
        moment = (number + moments.random()) / ROUNDS * seconds_of_a_run
        with_children = moments.random() < 0.5
        said = kill(site, state, moment, with_children)
        context = f"round {number}, {state}, killed after {moment:.2f} s (children too: {with_children}), said:\n{said}"
        second = site.converge()
        assert site.inventory() == EXPECTED, f"{context}\nthen:\n{second}"
        third = site.converge()
        assert "0 actions done" in third, f"{context}\nthen:\n{second}\nthen:\n{third}"
        for host in EXPECTED["machines"]:
            answer = site.ssh(host, "hostname")
            assert answer.stdout.strip() == host, f"{context}\n{answer.stderr}"
        site.converge("absent")
        nothing = {"machines": [], "networks": [], "volumes": []}
        assert site.inventory() == nothing, context


def test_nothing_is_left_in_the_storage_of_podman(site: Site) -> None:
    """A container that was half made would stay in podman's storage, where `podman ps` does not show it."""
    leftovers = [name for each in podman_list("ps", "--all", "--external") for name in each["Names"] if SITE in name]
    assert leftovers == []
