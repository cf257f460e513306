# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fleet file means, and what its mistakes are told as."""

from __future__ import annotations

import copy
import typing as t
from pathlib import Path

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import spec
from hypothesis import given
from hypothesis import strategies as st

GOOD: dict[str, t.Any] = {
    "site": "lab",
    "cloud": {"provider": "podman", "subnet": "172.31.78.0/24"},
    "shared_dirs": {"database": {"path": "/srv/omtd/database"}},
    "defaults": {"ram": "1 GiB", "disk": "10 GiB"},
    "machines": {
        "executor": {"groups": ["executor"], "vcpus": 2, "ram": "3 GiB", "shared_dirs": ["database"]},
        "worker": {"count": 2, "groups": ["normal"], "volumes": {"docker": {"size": "20 GiB", "keep": False}}},
    },
}


def changed(path: str, value: object) -> dict[str, t.Any]:
    """The good file with one key exchanged; None takes the key out."""
    content = copy.deepcopy(GOOD)
    where = content
    *parents, last = path.split(".")
    for key in parents:
        where = where.setdefault(key, {})
    if value is None:
        del where[last]
    else:
        where[last] = value
    return content


def problems(content: object) -> tuple[str, ...]:
    with pytest.raises(spec.FleetFileError) as caught:
        spec.parse(content)
    return caught.value.problems


# ------------------------------------------------------------------------------------------------------ meaning


def test_hosts_are_named_by_site_machine_and_number() -> None:
    assert [host.name for host in spec.parse(GOOD).hosts()] == ["lab-executor-1", "lab-worker-1", "lab-worker-2"]


def test_what_a_machine_does_not_say_comes_from_defaults() -> None:
    executor, worker = spec.parse(GOOD).machines
    assert (executor.ram_mib, executor.disk_gib, executor.vcpus) == (3072, 10, 2)
    assert (worker.ram_mib, worker.disk_gib, worker.vcpus) == (1024, 10, 1)


def test_a_volume_is_kept_unless_it_says_otherwise() -> None:
    fleet = spec.parse(changed("machines.worker.volumes", {"data": {"size": "5 GiB"}}))
    assert {each.name: each.keep for each in fleet.machines[1].volumes} == {"data": True, "docker": False}


def test_every_podman_machine_has_a_volume_for_docker() -> None:
    for machine in spec.parse(GOOD).machines:
        assert "/var/lib/docker" in {volume.path for volume in machine.volumes}


def test_site_values_have_a_default_each() -> None:
    assert spec.site_values(spec.parse(GOOD, folder="/sites/lab")) == {
        "site_name": "lab",
        "site_domain": "lab.internal",
        "site_timezone": "Etc/UTC",
        "site_shared_storage": "preprovided",
        "site_database_dir": "/srv/omtd/database",
        "site_tools_dir": "/srv/omtd/tools",
        "site_job_user": "galaxy",
        "site_job_uid": 7100,
        "site_folder": "/sites/lab",
        "cluster_scheduler": "slurm",
    }


def test_an_address_stays_when_other_machines_come_and_go() -> None:
    before = spec.private_addresses(spec.parse(GOOD))
    more = changed("machines.alpha", {"count": 5})
    after = spec.private_addresses(spec.parse(more), taken=before)
    assert {name: after[name] for name in before} == before
    assert len(set(after.values())) == len(after)


def test_a_full_subnet_gives_every_address_once() -> None:
    content = changed("cloud.subnet", "172.31.78.0/28")
    content["machines"] = {"worker": {"count": 5}}
    addresses = spec.private_addresses(spec.parse(content))
    assert sorted(addresses.values()) == [f"172.31.78.{number}" for number in range(10, 15)]


def test_addresses_of_existing_machines_are_those_of_the_file() -> None:
    fleet = spec.parse(
        {
            "site": "old",
            "cloud": {"provider": "existing", "user": "admin"},
            "machines": {
                "worker": {"addresses": ["192.0.2.1", {"private": "192.0.2.2", "user": "root", "port": 2222}]}
            },
        }
    )
    assert [(host.name, host.address) for host in fleet.hosts()] == [
        ("old-worker-1", spec.AddressSpec("192.0.2.1", "", "admin")),
        ("old-worker-2", spec.AddressSpec("192.0.2.2", "", "root", 2222)),
    ]


# ------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20 GiB", 20 * 2**30),
        ("20GiB", 20 * 2**30),
        ("20 GB", 20 * 10**9),
        ("512 MiB", 512 * 2**20),
        ("1.5 TB", 1_500_000_000_000),
        ("2 TiB", 2 * 2**40),
        ("0.1 KiB", 103),
    ],
)
def test_gib_is_binary_and_gb_is_decimal(text: str, size: int) -> None:
    assert spec.parse_size(text) == size


@pytest.mark.parametrize("text", ["20 GiBB", "20", 20, "GiB", "-1 GiB", "", True, None, [], "1 GiB 2 GiB", "1e3 GiB"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(spec.SizeError):
        spec.parse_size(text)


@given(st.integers(0, 10**9), st.sampled_from(sorted(spec.SIZE_UNITS)))
def test_a_whole_number_of_units_is_exact(number: int, unit: str) -> None:
    assert spec.parse_size(f"{number} {unit}") == number * spec.SIZE_UNITS[unit]


# ----------------------------------------------------------------------------------------------------- mistakes

MISTAKES = [
    ("machines.worker.disk", "20 GiBB", "machines.worker.disk: 20 GiBB: unknown unit GiBB; write 20 GiB"),
    ("machines.worker.ram", "4 gib", "machines.worker.ram: 4 gib: unknown unit gib; write 4 GiB"),
    ("machines.worker.ram", 4, "machines.worker.ram: 4: a size without unit; write for instance 4 GiB"),
    ("machines.worker.count", -1, "machines.worker.count: -1: below zero; write 0 or more"),
    ("machines.worker.count", "two", "machines.worker.count: two: not a whole number; write 2"),
    ("machines.worker.vcpus", 0, "machines.worker.vcpus: 0: too few; write 1 or more"),
    ("machines.worker.groups", ["executer"], "machines.worker.groups: executer: unknown group; did you mean executor?"),
    ("machines.worker.groups", ["cluster_nodes"], "made of other groups; write normal or heavyweight"),
    ("machines.worker.grops", [], "machines.worker.grops: unknown key; did you mean groups?"),
    ("machines.worker.shared_dirs", ["tools"], "tools: no such directory; describe it as shared_dirs.tools"),
    ("machines.worker.image", "debian-11", "machines.worker.image: debian-11: unknown; write one of debian-12"),
    ("machines.worker.flavor", "m1.large", "machines.worker.flavor: m1.large: podman has no flavors"),
    ("machines.worker.addresses", ["192.0.2.1"], "machines.worker.addresses: is for provider existing"),
    ("machines.worker.user_data", "#cloud-config", "write one that begins with #!"),
    ("machines.worker.volumes.data", {}, "machines.worker.volumes.data.size: missing"),
    ("machines.worker.volumes.data", {"size": "0 GiB"}, "machines.worker.volumes.data.size: 0 GiB: too small"),
    ("machines.worker.volumes.data", {"size": "1 GiB", "path": "data"}, "no absolute path"),
    ("machines.worker.volumes.data", {"size": "1 GiB", "path": "/a:/b"}, "no absolute path"),
    ("machines.worker.volumes.data", {"size": "1 GiB", "path": "/var/lib/docker"}, "also of the volume docker"),
    ("machines.worker.networks", ["storage"], "no such network; describe it as cloud.networks.storage"),
    ("machines.worker.metadata", {"omtd_site": "x"}, "no name for metadata"),
    ("machines.localhost", {}, "machines.localhost: localhost: reserved"),
    ("machines.Worker", {}, "machines.Worker: Worker: no name"),
    ("machines.a--b", {}, "machines.a--b: a--b: two hyphens in a row"),
    ("machines", {}, "machines: empty"),
    ("machines", None, "machines: missing"),
    ("site", "localhost", "site: localhost: reserved"),
    ("site", "a" * 40, "site: aaaa"),
    ("site", None, "site: missing"),
    ("cloud", "podman", "cloud: podman: not a mapping"),
    ("cloud.provider", "openstak", "cloud.provider: openstak: unknown cloud; write one of podman, existing"),
    ("cloud.subnet", "172.31.78.0/33", "cloud.subnet: 172.31.78.0/33: no IPv4 network"),
    ("cloud.subnet", "172.31.78.0/30", "too small a network"),
    ("cloud.subnet", None, "cloud.subnet: missing"),
    ("cloud.networks", {"storage": "172.31.78.128/25"}, "shares addresses with cloud.subnet"),
    ("cloud.parallel", 0, "cloud.parallel: 0: too few"),
    ("values.scheduler", "pbs", "values.scheduler: pbs: unknown; write one of slurm, mesos"),
    ("values.schedular", "slurm", "values.schedular: unknown key; did you mean scheduler?"),
    ("values.domain", "bad_domain", "values.domain: bad_domain: no domain"),
    ("values.job_uid", 0, "values.job_uid: 0: outside 1000 to 60000"),
    ("values.job_user", "root", "values.job_user: root: no user name for jobs"),
    ("shared_dirs.tools", {}, "shared_dirs.tools.path: missing"),
    ("shared_dirs.tools", {"path": "/srv/omtd/database"}, "also of shared_dirs.database"),
    ("shared_dirs.tools", {"path": "/srv/../etc"}, "no absolute path"),
    ("adopt", {"lab-worker-9": "vm-17"}, "adopt.lab-worker-9: unknown host; did you mean lab-worker-"),
    ("adopt", {"lab-worker-1": "vm", "lab-worker-2": "vm"}, "adopt: vm: taken over by two hosts"),
    ("defaults.addresses", ["192.0.2.1"], "defaults.addresses: two machines cannot share an address"),
    ("typo", 1, "typo: unknown key"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES)
def test_a_mistake_is_told_once_with_its_path_and_a_way_out(path: str, value: object, message: str) -> None:
    found = problems(changed(path, value))
    assert len(found) == 1, found
    assert message in found[0]


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    content = changed("machines.worker.disk", "20 GiBB")
    content["machines"]["executor"]["count"] = -2
    content["cloud"]["foo"] = 1
    content["values"] = {"scheduler": "pbs"}
    assert len(problems(content)) == 4


def test_a_mistake_in_the_defaults_is_told_once_and_not_for_every_machine() -> None:
    assert problems(changed("defaults.ram", "1 gib")) == ("defaults.ram: 1 gib: unknown unit gib; write 1 GiB",)


def test_more_hosts_than_addresses_are_refused() -> None:
    content = changed("cloud.subnet", "172.31.78.0/28")
    content["machines"]["worker"]["count"] = 20
    assert "has room for 5 hosts, there are 21" in problems(content)[0]


def test_two_existing_hosts_cannot_have_one_address() -> None:
    content = {
        "site": "old",
        "cloud": {"provider": "existing"},
        "machines": {"a": {"addresses": ["192.0.2.1"]}, "b": {"addresses": ["192.0.2.1"]}},
    }
    assert "also the address of old-a-1" in problems(content)[0]


def test_an_existing_machine_needs_an_address() -> None:
    content = {"site": "old", "cloud": {"provider": "existing"}, "machines": {"a": {}}}
    assert problems(content) == ("machines.a.addresses: missing; write the address of each host of the machine",)


@pytest.mark.parametrize("content", [None, [], "text", 5, {"site": ["a"], "cloud": 7, "machines": []}])
def test_what_is_no_fleet_file_at_all_is_refused(content: object) -> None:
    assert problems(content)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted([*spec.TOP_KEYS, "x"])), value=plain)
def test_no_content_whatsoever_ends_in_anything_but_a_spec_or_its_mistakes(key: str, value: t.Any) -> None:
    try:
        spec.parse({**GOOD, key: value})
    except spec.FleetFileError as exc:
        assert exc.problems


@given(key=st.sampled_from(sorted(spec.MACHINE_KEYS)), value=plain)
def test_no_machine_whatsoever_ends_in_anything_but_a_spec_or_its_mistakes(key: str, value: t.Any) -> None:
    try:
        spec.parse({**GOOD, "machines": {"worker": {key: value}}})
    except spec.FleetFileError as exc:
        assert exc.problems


# ------------------------------------------------------------------------------------------------- from a file


def test_a_name_that_stands_twice_is_told_with_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "lab.fleet.yml"
    file.write_text(
        "site: lab\ncloud: {provider: podman, subnet: 172.31.78.0/24}\nmachines:\n  a: {}\n  b: {}\n  a: {}\n",
        encoding="utf-8",
    )
    with pytest.raises(spec.FleetFileError, match=r"machines\.a: stands twice, in lines 4 and 6"):
        spec.load(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is no YAML"), ("a: !vault x", "is no YAML"), ("\xff\xfe".encode("latin-1"), "cannot be read")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "lab.fleet.yml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(spec.FleetFileError, match=message) as caught:
        spec.load(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(spec.FleetFileError, match="no such file"):
        spec.load(tmp_path / "no.fleet.yml")


def test_the_site_folder_is_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.fleet.yml"
    file.write_text(
        "site: lab\ncloud: {provider: podman, subnet: 172.31.78.0/24}\nmachines: {a: {}}\n", encoding="utf-8"
    )
    assert spec.load(file).folder == str(tmp_path.resolve())
