# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every plan, whatever the cloud looks like. Each property takes the plan module that it tests, so
that the same properties meet the real one and its mutants."""

from __future__ import annotations

import dataclasses
import types
import typing as t

from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import apply, spec
from hypothesis import strategies as st
from memory_cloud import MemoryCloud

SITE = "lab"
SUBNET = "172.31.78.0/24"
MACHINES = ("worker", "master")
VOLUMES = ("docker", "images")
SHARED = ("database", "tools")
NAMES = (
    "lab-worker-1", "lab-worker-2", "lab-master-1", "omtd-lab", "omtd-lab--storage", "omtd-lab-worker-1--docker",
    "omtd-lab-worker-1--images", "omtd-lab--shared-database", "omtd-lab-2", "omtd-lab-2--storage", "other",
)  # fmt: skip
CREATE, DELETE, MACHINE, VOLUME, NETWORK, ADDRESS = "create", "delete", "machine", "volume", "network", "address"


@dataclasses.dataclass(frozen=True)
class Case:
    """One situation: a fleet file, a cloud, and what the operator asks for."""

    fleet: spec.FleetSpec
    observed: base.Observed
    can: base.Capabilities
    options: dict[str, t.Any]


# ------------------------------------------------------------------------------------------------- situations


@st.composite
def machine_volumes(draw: st.DrawFn) -> tuple[spec.VolumeSpec, ...]:
    """Often one, sometimes two, rarely none."""
    names = draw(st.sampled_from([VOLUMES[:1], VOLUMES, VOLUMES[1:], ()]))
    return tuple(spec.VolumeSpec(name, draw(st.integers(1, 3)), draw(st.booleans()), "/v") for name in names)


@st.composite
def fleets(draw: st.DrawFn) -> spec.FleetSpec:
    """Fleet files of one site, alike enough to be versions of each other."""
    shared = tuple(
        spec.SharedDirSpec(name, f"/srv/{name}", draw(st.sampled_from(["", "", "/data"])), draw(st.booleans()))
        for name in draw(st.sets(st.sampled_from(SHARED)))
    )
    networks: dict[str, str] = draw(st.sampled_from([{"storage": "172.31.79.0/24"}, {}]))
    machines = tuple(
        spec.MachineSpec(
            name=name,
            count=draw(st.sampled_from([1, 2, 1, 0])),
            image=draw(st.sampled_from(["debian-12", "debian-12", "debian-13"])),
            vcpus=1,
            ram_mib=draw(st.sampled_from([512, 1024])),
            disk_gib=10,
            volumes=draw(machine_volumes()),
            public_ip=draw(st.booleans()),
            networks=tuple(name for name in networks if draw(st.booleans())),
            shared_dirs=tuple(each.name for each in shared if draw(st.booleans())),
        )
        for name in draw(st.sampled_from([MACHINES, MACHINES[:1], MACHINES[1:]]))
    )
    options = {"subnet": SUBNET, "networks": networks, "parallel": 2}
    return spec.FleetSpec(SITE, spec.CloudSpec("podman", options), {}, shared, machines)


def tags_of_a_stranger(draw: st.DrawFn) -> dict[str, str]:
    """What resources carry that are not ours: nothing, another site's tags, or tags that only look like ours."""
    return draw(
        st.sampled_from(
            [
                {},
                {"omtd_site": "lab-2", "omtd_machine": "worker", "omtd_index": "1"},
                {"omtd_site": "LAB", "omtd_machine": "worker", "omtd_index": "1", "omtd_keep": "false"},
                {"omtd_machine": "worker", "omtd_index": "1"},
                {"omtd_machine": "worker", "omtd_index": "1", "omtd_volume": "docker", "omtd_keep": "false"},
                {"omtd_site": "", "omtd_shared": "database", "omtd_keep": "false"},
            ]
        )
    )


def half_tags(draw: st.DrawFn) -> dict[str, str]:
    """What a resource of ours carries whose maker was stopped, or whose tags somebody has damaged."""
    whole = {"omtd_site": SITE, "omtd_machine": "worker", "omtd_index": "1", "omtd_volume": "docker"}
    whole |= {"omtd_keep": draw(st.sampled_from(["no", "true", "false", ""]))}
    lost = draw(st.sets(st.sampled_from(sorted(set(whole) - {"omtd_site"})), max_size=2))
    damages: list[dict[str, str]] = [{}, {}, {"omtd_index": "x"}, {"omtd_index": "²"}, {"omtd_machine": ""}]
    damaged = draw(st.sampled_from(damages))
    return {key: value for key, value in {**whole, **damaged}.items() if key not in lost}


def perform(plan_module: types.ModuleType, cloud: MemoryCloud, fleet: spec.FleetSpec, **options: t.Any) -> t.Any:
    """Plans and carries out. Returns the plan; one that has problems is not carried out."""
    plan = plan_module.make_plan(fleet, cloud.observe(), cloud.capabilities, plan_module.Options(**options))
    waiting = [] if plan.problems else list(plan.actions)
    while waiting:  # the last that may be done comes first: what must wait has to say so
        keys = {each.key for each in waiting}
        action = next(each for each in reversed(waiting) if not keys & set(each.needs))
        waiting.remove(action)
        apply.perform(cloud, action, lambda _state: None)
    return plan


@st.composite
def observations(draw: st.DrawFn, can: base.Capabilities, fleet: spec.FleetSpec) -> base.Observed:
    """Clouds in every state of disorder: an earlier version of the site, with losses, doubles, halves and strangers."""
    from ansible_collections.omtd.workflow.plugins.module_utils.fleet import plan as real_plan  # noqa: PLC0415

    cloud = MemoryCloud(base.Observed(), can)
    history = draw(st.sampled_from(["same", "other", "nothing", "other"]))
    if history != "nothing":
        perform(real_plan, cloud, fleet if history == "same" else draw(fleets()))
    seen = cloud.observe()
    machines = [
        dataclasses.replace(
            each,
            state=draw(
                st.sampled_from([base.RUNNING, base.RUNNING, base.STOPPED, base.MADE, base.ERROR, base.BUILDING])
            ),
            ready=draw(st.booleans()),
        )
        for each in seen.machines
        if draw(st.integers(0, 4))
    ]
    volumes = [each for each in seen.volumes if draw(st.integers(0, 4))]
    networks = [each for each in seen.networks if draw(st.integers(0, 4))]
    addresses = [each for each in seen.addresses if draw(st.integers(0, 4))]
    names = [*NAMES, *(each.name for each in (*machines, *volumes, *networks))]
    for number in range(draw(st.integers(0, 3))):
        ours = draw(st.booleans())
        tags = half_tags(draw) if ours else tags_of_a_stranger(draw)
        name = f"half-{number}" if ours else draw(st.sampled_from(names))
        kind = draw(st.sampled_from([MACHINE, VOLUME, NETWORK, VOLUME, ADDRESS]))
        mark = f"{'ours' if ours else 'foreign'}-{number}"
        if kind == MACHINE:
            used = draw(st.sets(st.sampled_from([each.name for each in volumes] or ["none"]), max_size=1))
            network = draw(st.sets(st.sampled_from([each.name for each in networks] or ["none"]), max_size=1))
            machines.append(base.Machine(mark, name, tags, addresses=dict.fromkeys(network, ""), volumes=tuple(used)))
        elif kind == VOLUME:
            volumes.append(base.Volume(mark, name, tags, draw(st.integers(0, 4))))
        elif kind == NETWORK:
            networks.append(base.Network(mark, name, tags, "10.9.0.0/24"))
        else:
            to = draw(st.sampled_from(["", *(each.id for each in machines)]))
            addresses.append(base.Address(mark, name, tags, to))
    if machines and draw(st.booleans()):  # made twice: a create that was repeated
        twin = draw(st.sampled_from(machines))
        machines.append(dataclasses.replace(twin, id="twin", name=f"{twin.name}-twin", volumes=()))
    if volumes and draw(st.booleans()):
        twin_volume = draw(st.sampled_from(volumes))
        volumes.append(dataclasses.replace(twin_volume, id="volume-twin", name=f"{twin_volume.name}-twin"))
    present = {each.name for each in volumes}
    machines = [
        dataclasses.replace(each, volumes=tuple(name for name in each.volumes if name in present)) for each in machines
    ]
    users: dict[str, tuple[str, ...]] = {}
    for machine in machines:
        for name in machine.volumes:
            users[name] = (*users.get(name, ()), machine.id)
    volumes = [dataclasses.replace(each, attached_to=users.get(each.name, ())) for each in volumes]
    quota = {"machines": base.Quota(draw(st.sampled_from([1, 50])), 0)} if draw(st.booleans()) else {}
    return base.Observed(tuple(machines), tuple(networks), tuple(volumes), tuple(addresses), quota)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Everything together."""
    can = base.Capabilities(
        grow_volumes=draw(st.booleans()),
        attach_volumes=draw(st.booleans()),
        floating_addresses=draw(st.booleans()),
        adopt=draw(st.booleans()),
    )
    fleet = draw(fleets())
    options: dict[str, t.Any] = draw(
        st.sampled_from(
            [
                {},
                {"prune": True},
                {"state": "absent", "confirm": SITE},
                {"state": "absent", "confirm": SITE, "delete_kept_volumes": True},
                {"state": "absent", "confirm": "lab-2"},
                {"state": "absent"},
                {"delete_kept_volumes": True, "prune": True},
            ]
        )
    )
    hosts = [host.name for host in fleet.hosts()]
    if hosts and "state" not in options and draw(st.booleans()):
        options = {**options, "replace": (draw(st.sampled_from(hosts)),)}
    return Case(fleet, draw(observations(can, fleet)), can, options)


# ------------------------------------------------------------------------------------------------- an own opinion


def is_ours(resource: t.Any) -> bool:
    """Whether a resource is the site's. Not taken from plan.py, which is what is tested."""
    return resource.tags.get("omtd_site") == SITE


def is_kept(volume: base.Volume, fleet: spec.FleetSpec) -> bool:
    """Whether a volume must survive. Not taken from plan.py either."""
    if volume.tags.get("omtd_keep") != "false":
        return True
    if "omtd_shared" in volume.tags:
        return volume.tags["omtd_shared"] in {each.name for each in fleet.shared_dirs if each.keep}
    kept = {(machine.name, each.name) for machine in fleet.machines for each in machine.volumes if each.keep}
    return (volume.tags.get("omtd_machine"), volume.tags.get("omtd_volume")) in kept


def everything(observed: base.Observed) -> dict[tuple[str, str], t.Any]:
    """{(kind, id): resource}."""
    kinds = {MACHINE: observed.machines, VOLUME: observed.volumes}
    kinds |= {NETWORK: observed.networks, ADDRESS: observed.addresses}  # type: ignore[dict-item]
    return {(kind, each.id): each for kind, resources in kinds.items() for each in resources}


def make(plan_module: types.ModuleType, case: Case) -> t.Any:
    return plan_module.make_plan(case.fleet, case.observed, case.can, plan_module.Options(**case.options))


# ----------------------------------------------------------------------------------------------- the properties


def nothing_is_left_to_do_after_a_plan_is_done(plan_module: types.ModuleType, case: Case) -> None:
    cloud = MemoryCloud(case.observed, case.can)
    first = perform(plan_module, cloud, case.fleet, **case.options)
    if first.problems:
        return
    options = {key: value for key, value in case.options.items() if key != "replace"}
    second = plan_module.make_plan(case.fleet, cloud.observe(), case.can, plan_module.Options(**options))
    assert second.actions == (), plan_module.render(second)


def no_action_names_what_is_not_ours(plan_module: types.ModuleType, case: Case) -> None:
    plan = make(plan_module, case)
    there = everything(case.observed)
    for action in plan.actions:
        if action.id:
            kind = MACHINE if action.verb == "attach" else action.kind
            assert is_ours(there[kind, action.id]), plan_module.render(plan)
        elif action.verb == CREATE and action.kind != ADDRESS and not plan.problems:
            strangers = {each.name for (kind, _id), each in there.items() if kind == action.kind and not is_ours(each)}
            assert action.name not in strangers, plan_module.render(plan)


def strangers_are_untouched(plan_module: types.ModuleType, case: Case) -> None:
    cloud = MemoryCloud(case.observed, case.can)
    before = {key: each for key, each in everything(cloud.observe()).items() if not is_ours(each)}
    perform(plan_module, cloud, case.fleet, **case.options)
    after = everything(cloud.observe())
    for key, each in before.items():
        assert key in after, f"{key} is gone"
        assert dataclasses.replace(after[key], **_without_users(after[key])) == dataclasses.replace(
            each, **_without_users(each)
        )


def _without_users(resource: t.Any) -> dict[str, t.Any]:
    return {"attached_to": ()} if isinstance(resource, base.Volume) else {}


def kept_volumes_are_never_deleted(plan_module: types.ModuleType, case: Case) -> None:
    plan = make(plan_module, case)
    if case.options.get("state") == "absent" and case.options.get("delete_kept_volumes"):
        return
    volumes = {each.id: each for each in case.observed.volumes}
    for action in plan.actions:
        if (action.verb, action.kind) == (DELETE, VOLUME):
            assert not is_kept(volumes[action.id], case.fleet), plan_module.render(plan)


def only_what_is_asked_for_is_taken_away(plan_module: types.ModuleType, case: Case) -> None:
    plan = make(plan_module, case)
    deleted = [action for action in plan.actions if action.verb == DELETE]
    if case.options.get("state") == "absent":
        assert not deleted or case.options.get("confirm") == SITE
    elif not case.options.get("prune"):
        for action in deleted:
            resource = everything(case.observed)[action.kind, action.id]
            host = f"{SITE}-{resource.tags.get('omtd_machine')}-{resource.tags.get('omtd_index')}"
            assert host in case.options.get("replace", ()), plan_module.render(plan)


def what_is_wanted_stays(plan_module: types.ModuleType, case: Case) -> None:
    """Pruning takes away no host of the fleet file unless there are two of it, and no volume in use by one."""
    if case.options.get("state") == "absent":
        return
    plan = make(plan_module, case)
    deleted = {action.id for action in plan.actions if action.verb == DELETE}
    wanted = {(host.machine.name, str(host.index)): host for host in case.fleet.hosts()}
    for key, host in wanted.items():
        if host.name in case.options.get("replace", ()):
            continue
        machines = [each for each in case.observed.machines if is_ours(each) and _key(each) == key]
        assert not machines or any(each.id not in deleted for each in machines), plan_module.render(plan)


def a_volume_never_shrinks(plan_module: types.ModuleType, case: Case) -> None:
    cloud = MemoryCloud(case.observed, case.can)
    before = {each.id: each.size_gib for each in case.observed.volumes}
    perform(plan_module, cloud, case.fleet, **case.options)
    for each in cloud.volumes.values():
        assert each.size_gib >= before.get(each.id, 0)
    wanted = {
        (host.machine.name, str(host.index), volume.name): volume.size_gib
        for host in case.fleet.hosts()
        for volume in host.machine.volumes
    }
    if case.options.get("state") == "absent" or case.options.get("replace"):
        return
    plan = make(plan_module, case)
    names = ("omtd_machine", "omtd_index", "omtd_volume")
    sizes: dict[tuple[str, ...], list[int]] = {}
    for volume in case.observed.volumes:
        if is_ours(volume) and all(name in volume.tags for name in names):
            sizes.setdefault(tuple(volume.tags[name] for name in names), []).append(volume.size_gib)
    broken = {
        (machine.tags.get("omtd_machine"), machine.tags.get("omtd_index"))
        for machine in case.observed.machines
        if machine.state in {base.ERROR, base.BUILDING}
    }
    for key, size in wanted.items():
        if key[:2] not in broken and key in sizes and min(sizes[key]) > size and not plan.problems:
            raise AssertionError(f"{key}: {size} GiB is less than {sizes[key]}, and nobody says so")


def a_plan_that_does_not_fit_is_refused(plan_module: types.ModuleType, case: Case) -> None:
    plan = make(plan_module, case)
    made = sum((action.verb, action.kind) == (CREATE, MACHINE) for action in plan.actions)
    gone = len([action for action in plan.actions if (action.verb, action.kind) == (DELETE, MACHINE)])
    quota = case.observed.quota.get("machines")
    if quota and made - gone > quota.limit - quota.used:
        assert plan.problems, plan_module.render(plan)


def every_wanted_host_is_made_once(plan_module: types.ModuleType, case: Case) -> None:
    if case.options.get("state") == "absent":
        return
    cloud = MemoryCloud(case.observed, case.can)
    plan = perform(plan_module, cloud, case.fleet, **case.options)
    if plan.problems:
        return
    before = [_key(each) for each in case.observed.machines if is_ours(each)]
    after = [_key(each) for each in cloud.machines.values() if is_ours(each)]
    for host in case.fleet.hosts():
        key = (host.machine.name, str(host.index))
        assert after.count(key) >= 1, f"{host.name} is missing"
        assert after.count(key) <= max(before.count(key), 1), f"{host.name} was made twice"
        machines = [each for each in cloud.machines.values() if is_ours(each) and _key(each) == key]
        hopeless = any(each.state in {base.ERROR, base.BUILDING} for each in machines)
        assert hopeless or any(each.state == base.RUNNING and each.ready for each in machines), (
            f"{host.name}: not ready"
        )


def _key(resource: t.Any) -> tuple[str | None, str | None]:
    return (resource.tags.get("omtd_machine"), resource.tags.get("omtd_index"))


def addresses_are_given_once(plan_module: types.ModuleType, case: Case) -> None:
    plan = make(plan_module, case)
    given = [
        action.wanted.addresses.get(name, "")
        for action in plan.actions
        if (action.verb, action.kind) == (CREATE, MACHINE)
        for name in list(action.wanted.addresses)[:1]
    ]
    going = {action.id for action in plan.actions if action.verb == DELETE}
    taken = [
        address
        for each in case.observed.machines
        if each.id not in going
        for address in each.addresses.values()
        if address
    ]
    both = [address for address in given if address]
    assert len(both) == len(set(both)), f"given twice: {both}"
    assert not set(both) & set(taken), "given to a second machine"


def first_steps_come_first(plan_module: types.ModuleType, case: Case) -> None:
    """Every need of an action is another action's key, or nothing has to be done for it; and none waits for itself."""
    plan = make(plan_module, case)
    keys = [action.key for action in plan.actions]
    assert len(keys) == len(set(keys)), f"one key twice: {keys}"
    done: set[str] = set()
    waiting = list(plan.actions)
    while waiting:
        ready = [action for action in waiting if not {each.key for each in waiting} & set(action.needs)]
        assert ready, f"all wait for each other: {[each.key for each in waiting]}"
        done |= {each.key for each in ready}
        waiting = [each for each in waiting if each not in ready]


def a_site_that_stands_is_left_alone(plan_module: types.ModuleType, case: Case) -> None:
    """No action, and no excuse either: a refusal would keep the operator from everything else."""
    from ansible_collections.omtd.workflow.plugins.module_utils.fleet import plan as real_plan  # noqa: PLC0415

    cloud = MemoryCloud(base.Observed(), case.can)
    perform(real_plan, cloud, case.fleet)
    plan = plan_module.make_plan(case.fleet, cloud.observe(), case.can, plan_module.Options())
    assert not (plan.actions or plan.problems or plan.notes or plan.faults), plan_module.render(plan)


PROPERTIES: tuple[t.Callable[[types.ModuleType, Case], None], ...] = (
    nothing_is_left_to_do_after_a_plan_is_done,
    no_action_names_what_is_not_ours,
    strangers_are_untouched,
    kept_volumes_are_never_deleted,
    only_what_is_asked_for_is_taken_away,
    what_is_wanted_stays,
    a_volume_never_shrinks,
    a_plan_that_does_not_fit_is_refused,
    every_wanted_host_is_made_once,
    addresses_are_given_once,
    first_steps_come_first,
    a_site_that_stands_is_left_alone,
)
