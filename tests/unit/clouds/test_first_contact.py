# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site's keys: made once, pinned whole, and never forgotten while a machine may use them."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base
from ansible_collections.omtd.workflow.plugins.module_utils.clouds.first_contact import SiteKeys, make_key_pair

MACHINE = "0123456789abcdef"


@pytest.fixture
def keys(tmp_path: Path) -> SiteKeys:
    made = SiteKeys(str(tmp_path))
    made.operator_key()
    return made


def known(keys: SiteKeys) -> list[str]:
    return keys.known_hosts.read_text(encoding="utf-8").splitlines()


def test_the_operators_key_is_made_once_and_only_the_operator_can_read_it(tmp_path: Path) -> None:
    first = SiteKeys(str(tmp_path)).operator_key()
    assert SiteKeys(str(tmp_path)).operator_key() == first
    assert (tmp_path / ".fleet" / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".fleet").stat().st_mode & 0o777 == 0o700


def test_a_key_that_the_site_configures_is_used_and_never_made(tmp_path: Path) -> None:
    with pytest.raises(base.CloudError, match=r"cloud\.identity_file: .* no such file"):
        SiteKeys(str(tmp_path), str(tmp_path / "mine")).operator_key()


def test_a_machine_is_met_only_when_its_own_keys_are_pinned(keys: SiteKeys) -> None:
    first, own = make_key_pair().public, make_key_pair().public
    keys.pin_first("lab-worker-1", "172.31.78.9", MACHINE, first)
    assert not keys.is_met("lab-worker-1", MACHINE)
    keys.pin_both("lab-worker-1", "172.31.78.9", MACHINE, [own])
    assert not keys.is_met("lab-worker-1", MACHINE)
    assert len(known(keys)) == 2
    keys.pin_own("lab-worker-1", "172.31.78.9", MACHINE, [own])
    assert keys.is_met("lab-worker-1", MACHINE)
    assert [line.split()[:3] for line in known(keys)] == [["lab-worker-1,172.31.78.9", *own.split()]]


def test_keys_that_a_killed_run_may_have_had_a_machine_use_stay_pinned(keys: SiteKeys) -> None:
    first, one, two = (make_key_pair().public for _number in range(3))
    keys.pin_first("lab-worker-1", "172.31.78.9", MACHINE, first)
    keys.pin_both("lab-worker-1", "172.31.78.9", MACHINE, [one])
    keys.pin_both("lab-worker-1", "172.31.78.9", MACHINE, [two])
    pinned = {" ".join(line.split()[1:3]) for line in known(keys)}
    assert pinned == {first, one, two}


def test_a_new_machine_of_the_same_name_is_not_taken_for_the_old_one(keys: SiteKeys) -> None:
    keys.pin_own("lab-worker-1", "172.31.78.9", MACHINE, [make_key_pair().public])
    assert not keys.is_met("lab-worker-1", "fedcba9876543210")


def test_a_machine_is_met_anew_when_the_operators_key_is_another(keys: SiteKeys) -> None:
    keys.pin_own("lab-worker-1", "172.31.78.9", MACHINE, [make_key_pair().public])
    for file in keys.folder.glob("id_ed25519*"):
        file.unlink()
    later = SiteKeys(str(keys.folder.parent))
    later.operator_key()
    assert not later.is_met("lab-worker-1", MACHINE)


def test_forgetting_one_host_keeps_those_whose_names_begin_alike(keys: SiteKeys) -> None:
    for host in ("lab-worker-1", "lab-worker-10"):
        keys.pin_first(host, "172.31.78.9", MACHINE, make_key_pair().public)
    keys.forget("lab-worker-1")
    assert [line.split(",")[0] for line in known(keys)] == ["lab-worker-10"]


def test_many_machines_pinned_at_once_are_all_there(keys: SiteKeys) -> None:
    public = make_key_pair().public
    hosts = [f"lab-worker-{number}" for number in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: keys.pin_first(host, "172.31.78.9", MACHINE, public), hosts))
    assert len(known(keys)) == 40


def test_every_key_pair_is_another() -> None:
    assert make_key_pair() != make_key_pair()
