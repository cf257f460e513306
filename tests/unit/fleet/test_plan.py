# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the plan, one by one: what an operator reads in it, and how ownership is told."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import apply, plan, spec
from memory_cloud import MemoryCloud

CONTENT: dict[str, t.Any] = {
    "site": "lab",
    "cloud": {"provider": "podman", "subnet": "172.31.78.0/24"},
    "shared_dirs": {"database": {"path": "/srv/omtd/database"}},
    "machines": {
        "master": {"groups": ["cluster_master"]},
        "worker": {
            "count": 2,
            "groups": ["normal"],
            "shared_dirs": ["database"],
            "volumes": {"data": {"size": "5 GiB"}},
        },
    },
}
ALL_CAN = base.Capabilities(adopt=True, grow_volumes=True, attach_volumes=True, one_address_space=True)


def fleet(**machines: t.Any) -> spec.FleetSpec:
    """The site, with other machines where they are given."""
    return spec.parse({**CONTENT, "machines": {**CONTENT["machines"], **machines}})


def standing(can: base.Capabilities = ALL_CAN, observed: base.Observed | None = None) -> MemoryCloud:
    """A cloud in which the site stands."""
    cloud = MemoryCloud(observed or base.Observed(), can)
    made = plan.make_plan(fleet(), cloud.observe(), can)
    outcome = apply.carry_out(made, cloud, 2, lambda _event: None)
    assert not outcome.failures
    return cloud


def planned(cloud: MemoryCloud, wanted: spec.FleetSpec | None = None, **options: t.Any) -> plan.Plan:
    return plan.make_plan(wanted or fleet(), cloud.observe(), cloud.capabilities, plan.Options(**options))


def steps(made: plan.Plan) -> list[str]:
    return [f"{action.verb} {action.kind} {action.name}" for action in made.actions]


# ------------------------------------------------------------------------------------------------------ ownership


@dataclasses.dataclass(frozen=True)
class Thing:
    """A resource as ownership sees it."""

    id: str = "1"
    name: str = ""
    tags: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    attached_to: str = ""


@pytest.mark.parametrize(
    ("provider", "kind", "thing", "ours"),
    [
        ("openstack", plan.MACHINE, Thing(name="lab-worker-1"), False),
        ("openstack", plan.MACHINE, Thing(tags={"omtd_site": "lab"}), True),
        ("openstack", plan.NETWORK, Thing(name="omtd-lab"), False),
        ("openstack", plan.NETWORK, Thing(name="x", tags={"omtd_site": "lab"}), True),
        ("openstack", plan.ADDRESS, Thing(attached_to="m"), False),
        ("synnefo", plan.NETWORK, Thing(name="omtd-lab"), True),
        ("synnefo", plan.NETWORK, Thing(name="omtd-lab--storage"), True),
        ("synnefo", plan.NETWORK, Thing(name="omtd-lab-2"), False),
        ("synnefo", plan.NETWORK, Thing(name="omtd-lab-2--storage"), False),
        ("synnefo", plan.NETWORK, Thing(name="x", tags={"omtd_site": "lab"}), False),
        ("synnefo", plan.ADDRESS, Thing(attached_to="m"), True),
        ("synnefo", plan.ADDRESS, Thing(id="recorded"), True),
        ("synnefo", plan.ADDRESS, Thing(attached_to="n"), False),
        ("synnefo", plan.ADDRESS, Thing(), False),
        ("podman", plan.VOLUME, Thing(name="omtd-lab-worker-1--data"), False),
        ("openstack", plan.KEYPAIR, Thing(name="omtd-lab--operator"), True),
        ("openstack", plan.KEYPAIR, Thing(name="operator", tags={"omtd_site": "lab"}), False),
    ],
)
def test_what_is_ours_is_told_by_the_rule_of_its_kind(provider: str, kind: str, thing: Thing, ours: bool) -> None:
    machines = [base.Machine("m", "lab-worker-1", {"omtd_site": "lab"}, records={"address/recorded": "lab"})]
    assert plan.owns("lab", provider, kind, thing, machines) is ours


def test_a_machine_with_our_name_that_is_not_ours_stops_the_plan() -> None:
    cloud = MemoryCloud(base.Observed(machines=(base.Machine("x", "lab-worker-1"),)), ALL_CAN)
    made = planned(cloud)
    assert made.problems == (
        "machine lab-worker-1: exists already and is not of the site lab; "
        "adopt it (adopt: {lab-worker-1: …}), or rename one of them",
    )
    with pytest.raises(plan.PlanError):
        apply.carry_out(made, cloud, 1, lambda _event: None)
    assert list(cloud.machines) == ["x"]
    assert not cloud.networks


def test_an_adopted_machine_is_tagged_and_is_ours_from_then_on() -> None:
    cloud = MemoryCloud(base.Observed(machines=(base.Machine("vm-17", "old-name"),)), ALL_CAN)
    wanted = spec.parse({**CONTENT, "adopt": {"lab-worker-1": "old-name"}})
    made = planned(cloud, wanted)
    assert "adopt machine lab-worker-1" in steps(made)
    assert "create machine lab-worker-1" not in steps(made)
    apply.carry_out(made, cloud, 2, lambda _event: None)
    assert cloud.machines["vm-17"].tags == {"omtd_site": "lab", "omtd_machine": "worker", "omtd_index": "1"}
    assert plan.observed_hosts(wanted, cloud.observe())["lab-worker-1"].id == "vm-17"


@pytest.mark.parametrize(
    ("machines", "message"),
    [
        ((), "no machine has this name or id"),
        ((base.Machine("a", "old"), base.Machine("b", "old")), "2 machines have"),
        ((base.Machine("a", "old", {"omtd_site": "other"}),), "belongs to the site other already"),
    ],
)
def test_only_one_free_machine_can_be_adopted(machines: tuple[base.Machine, ...], message: str) -> None:
    cloud = MemoryCloud(base.Observed(machines=machines), ALL_CAN)
    made = planned(cloud, spec.parse({**CONTENT, "adopt": {"lab-worker-1": "old"}}))
    assert any(message in problem for problem in made.problems), made.problems


# ------------------------------------------------------------------------------------------- what is there stays


def test_drift_is_told_and_not_touched() -> None:
    made = planned(standing(), fleet(master={"ram": "4 GiB", "image": "debian-13"}))
    assert not made.actions
    assert [note.detail for note in made.notes] == [
        "image debian-12, wanted debian-13: replace: [lab-master-1]",
        "ram 1024 MiB, wanted 4096 MiB: replace: [lab-master-1]",
    ]


def test_surplus_machines_go_only_when_they_are_pruned() -> None:
    fewer = fleet(worker={**CONTENT["machines"]["worker"], "count": 1})
    cloud = standing()
    assert steps(planned(cloud, fewer)) == []
    assert steps(planned(cloud, fewer, prune=True)) == [
        "delete machine lab-worker-2",
        "delete volume omtd-lab-worker-2--docker",
    ]


def test_a_machine_that_is_made_anew_gets_its_kept_volumes_back() -> None:
    cloud = standing()
    before = {each.name: each.id for each in cloud.volumes.values()}
    made = planned(cloud, replace=("lab-worker-1",))
    apply.carry_out(made, cloud, 2, lambda _event: None)
    after = {each.name: each.id for each in cloud.volumes.values()}
    assert after["omtd-lab-worker-1--data"] == before["omtd-lab-worker-1--data"]
    assert after["omtd-lab-worker-1--docker"] != before["omtd-lab-worker-1--docker"]
    machine = next(each for each in cloud.machines.values() if each.name == "lab-worker-1")
    assert "omtd-lab-worker-1--data" in machine.volumes


def test_a_volume_that_shrinks_is_refused_with_the_path_of_its_key() -> None:
    worker = {**CONTENT["machines"]["worker"], "volumes": {"data": {"size": "3 GiB"}}}
    made = planned(standing(), fleet(worker=worker))
    assert made.problems[0] == (
        "machines.worker.volumes.data.size: 3 GiB is less than omtd-lab-worker-1--data has (5 GiB), "
        "and a volume never shrinks; write 5 GiB or more"
    )


def test_a_site_does_not_go_without_its_name() -> None:
    made = planned(standing(), state="absent", confirm="labb")
    assert made.actions == ()
    assert made.problems == ("confirm: labb: the whole site would be taken away; write confirm: lab to mean it",)


def test_a_site_that_goes_leaves_its_kept_volumes_and_gets_them_back() -> None:
    cloud = standing()
    made = planned(cloud, state="absent", confirm="lab")
    apply.carry_out(made, cloud, 2, lambda _event: None)
    kept = {"omtd-lab-worker-1--data", "omtd-lab-worker-2--data", "omtd-lab--shared-database"}
    assert {each.name for each in cloud.volumes.values()} == kept
    assert not cloud.machines
    assert not cloud.networks
    again = planned(cloud)
    assert not kept & {action.name for action in again.actions}


def test_over_quota_nothing_is_made_and_the_numbers_are_told() -> None:
    observed = base.Observed(quota={"ram_mib": base.Quota(limit=4096, used=2048)})
    made = planned(MemoryCloud(observed, ALL_CAN))
    assert made.problems == (
        "quota: ram_mib: 3072 needed, 2048 of 4096 free; make the fleet smaller, or ask for more quota",
    )


def test_a_network_whose_addresses_are_taken_is_refused_by_name() -> None:
    observed = base.Observed(networks=(base.Network("n", "office", {}, "172.31.0.0/16"),))
    assert "shares addresses with the network office" in planned(MemoryCloud(observed, ALL_CAN)).problems[0]


def test_a_cloud_that_makes_nothing_takes_nothing_away() -> None:
    cloud = MemoryCloud(standing().observe(), base.Capabilities(make=False))
    assert planned(cloud).actions == ()
    assert planned(cloud, state="absent", confirm="lab").problems


# ---------------------------------------------------------------------------------------------------- carrying out


def test_a_machine_that_fails_is_named_and_the_others_are_made() -> None:
    cloud = MemoryCloud(base.Observed(), ALL_CAN, fails={"lab-worker-1"})
    outcome = apply.carry_out(planned(cloud), cloud, 4, lambda _event: None)
    assert {each.name for each in cloud.machines.values()} == {"lab-master-1", "lab-worker-2"}
    assert "lab-worker-1: no host has room for it" in outcome.report()
    cloud.fails = ()
    again = apply.carry_out(planned(cloud), cloud, 4, lambda _event: None)
    assert not again.failures
    assert cloud.calls.count("create lab-master-1") == 1


def test_a_broken_machine_fails_the_run_and_the_others_go_on() -> None:
    cloud = standing()
    broken = next(each for each in cloud.machines.values() if each.name == "lab-worker-1")
    cloud.machines[broken.id] = dataclasses.replace(broken, state=base.ERROR, fault="no valid host")
    outcome = apply.carry_out(planned(cloud), cloud, 1, lambda _event: None)
    assert "lab-worker-1: in state error: no valid host; make it anew with replace: [lab-worker-1]" in outcome.report()


def test_progress_counts_every_action_once() -> None:
    events: list[apply.Event] = []
    cloud = MemoryCloud(base.Observed(), ALL_CAN)
    made = planned(cloud)
    apply.carry_out(made, cloud, 3, events.append)
    ended = [event.done for event in events if event.ended]
    assert ended == list(range(1, len(made.actions) + 1))
    assert {event.total for event in events} == {len(made.actions)}


def test_the_table_names_every_action_and_note() -> None:
    made = planned(MemoryCloud(base.Observed(), ALL_CAN))
    table = plan.render(made)
    assert table.startswith("lab on podman: create 1 network, create 6 volumes, create 3 machines\n")
    assert all(action.name in table for action in made.actions)
