# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a cloud has what a fleet file says. Pure: two values go in, a third comes out.

Every rule about what may be made, changed or taken away stands here, and nowhere else:

- what is ours (:data:`OWNERSHIP`); nothing else is ever named in an action, except what ``adopt`` names
- a volume that is kept is in no ``delete``, unless a whole site goes and its volumes are given up by their own word
- surplus goes only with ``prune``, a site only with its name as ``confirm``, a machine that drifted only by ``replace``
- a volume never shrinks, and nothing is done at all when the plan does not fit the quota
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

from ..clouds import base
from . import spec as fleet_spec

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TAG_SITE = "omtd_site"
TAG_MACHINE = "omtd_machine"
TAG_INDEX = "omtd_index"
TAG_VOLUME = "omtd_volume"
TAG_SHARED = "omtd_shared"
TAG_NETWORK = "omtd_network"
TAG_KEEP = "omtd_keep"

MACHINE, NETWORK, VOLUME, ADDRESS, KEYPAIR = "machine", "network", "volume", "address", "keypair"
KINDS = (NETWORK, VOLUME, ADDRESS, MACHINE)

BY_TAG = "tag"
BY_NAME = "name"
BY_ATTACHMENT = "attachment"
OWNERSHIP: dict[str, dict[str, str]] = {
    # kind: {provider: how we know that a resource is ours}; '' stands for every other provider
    MACHINE: {"": BY_TAG},
    VOLUME: {"": BY_TAG},
    NETWORK: {"": BY_TAG, "synnefo": BY_NAME},
    ADDRESS: {"": BY_TAG, "synnefo": BY_ATTACHMENT},
    KEYPAIR: {"": BY_NAME},
}

CREATE, GROW, ATTACH, START, CONTACT, ADOPT, DELETE = "create", "grow", "attach", "start", "contact", "adopt", "delete"

HostKey = tuple[str, int]
"""(name of the machine entry, index)"""


class Resource(t.Protocol):
    """What ownership looks at."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def tags(self) -> Mapping[str, str]: ...


def owns(site: str, provider: str, kind: str, resource: Resource, own_machines: Sequence[base.Machine] = ()) -> bool:
    """Whether a resource is the site's, by the rule that :data:`OWNERSHIP` has for its kind."""
    rules = OWNERSHIP[kind]
    rule = rules.get(provider, rules[""])
    if rule == BY_TAG:
        return resource.tags.get(TAG_SITE) == site
    if rule == BY_NAME:
        # Two hyphens stand in no site's name, so site `lab` does not own what site `lab-2` has.
        return resource.name == reserved_name(site) or resource.name.startswith(reserved_name(site) + "--")
    attached_to = getattr(resource, "attached_to", "")
    return any(
        machine.id == attached_to or machine.records.get(f"{kind}/{resource.id}") == site for machine in own_machines
    )


def reserved_name(site: str, part: str = "") -> str:
    """The name in the cloud of something that belongs to the whole site."""
    return f"omtd-{site}--{part}" if part else f"omtd-{site}"


# ------------------------------------------------------------------------------------------------------- the plan


@dataclasses.dataclass(frozen=True)
class Action:
    """One step. ``id`` is that of a listed resource, '' for one that is to be made."""

    verb: str
    kind: str
    name: str
    id: str = ""
    wanted: t.Any = None
    detail: str = ""
    needs: tuple[str, ...] = ()
    """keys of the actions that must have succeeded before; those that are not in the plan count as done"""

    @property
    def key(self) -> str:
        """Names the action in its plan."""
        return f"{self.verb} {self.kind} {self.name}" + (f" {self.id}" if self.verb == DELETE else "")


@dataclasses.dataclass(frozen=True)
class Note:
    """Something that is seen and not touched: drift, surplus, kept volumes."""

    what: str
    kind: str
    name: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Need:
    """How much of one thing the plan needs, in the unit of its name."""

    name: str
    needed: int
    limit: int
    used: int

    @property
    def free(self) -> int:
        return self.limit - self.used

    @property
    def fits(self) -> bool:
        return self.needed <= max(self.free, 0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The difference between wanted and observed. With ``problems``, nothing of it may be done."""

    site: str
    provider: str
    actions: tuple[Action, ...] = ()
    notes: tuple[Note, ...] = ()
    problems: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """machines that are broken and cannot be helped by an action of this plan; the others go on"""
    needs: tuple[Need, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.actions)


class PlanError(Exception):
    """A plan that must not be carried out. ``problems`` says why, one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        intro = (
            f"{len(self.problems)} reason{'s' if len(self.problems) != 1 else ''} to do nothing. Nothing was changed."
        )
        super().__init__("\n".join([intro, *(f"  - {problem}" for problem in self.problems)]))


@dataclasses.dataclass(frozen=True)
class Options:
    """What the operator asks for beside the fleet file."""

    state: str = "present"
    prune: bool = False
    replace: tuple[str, ...] = ()
    """names of hosts to make anew"""
    confirm: str = ""
    delete_kept_volumes: bool = False


@dataclasses.dataclass(frozen=True)
class Owned:
    """What of the observed is ours, sorted."""

    hosts: dict[HostKey, base.Machine]
    other_machines: tuple[base.Machine, ...]
    """ours, but doubly made, or of no machine that one can tell"""
    networks: dict[str, base.Network]
    other_networks: tuple[base.Network, ...]
    volumes: tuple[base.Volume, ...]
    addresses: tuple[base.Address, ...]

    @property
    def machines(self) -> tuple[base.Machine, ...]:
        return (*self.hosts.values(), *self.other_machines)


def owned(site: str, provider: str, observed: base.Observed) -> Owned:
    """Sorts what is ours. Of a host that was made twice, the one that is further on counts."""
    machines = [each for each in observed.machines if owns(site, provider, MACHINE, each)]
    hosts: dict[HostKey, base.Machine] = {}
    others = []
    for machine in sorted(machines, key=_merit):
        key = host_key(machine.tags)
        if key is None or key in hosts:
            others.append(machine)
        else:
            hosts[key] = machine
    networks: dict[str, base.Network] = {}
    other_networks = []
    for network in sorted(observed.networks, key=lambda each: each.id):
        if not owns(site, provider, NETWORK, network, machines):
            continue
        name = network.tags.get(TAG_NETWORK)
        if name is None or name in networks:
            other_networks.append(network)
        else:
            networks[name] = network
    return Owned(
        hosts=hosts,
        other_machines=tuple(others),
        networks=networks,
        other_networks=tuple(other_networks),
        volumes=tuple(each for each in observed.volumes if owns(site, provider, VOLUME, each, machines)),
        addresses=tuple(each for each in observed.addresses if owns(site, provider, ADDRESS, each, machines)),
    )


def host_key(tags: Mapping[str, str]) -> HostKey | None:
    """Which host a resource belongs to, by its tags; None when they do not say."""
    machine, index = tags.get(TAG_MACHINE, ""), tags.get(TAG_INDEX, "")
    return (machine, int(index)) if machine and index.isascii() and index.isdigit() else None


def observed_hosts(spec: fleet_spec.FleetSpec, observed: base.Observed) -> dict[str, base.Machine]:
    """{host name: the machine that it is}, for the hosts of the fleet file that exist."""
    ours = owned(spec.site, spec.cloud.provider, observed)
    found = {host.name: ours.hosts.get((host.machine.name, host.index)) for host in spec.hosts()}
    return {name: machine for name, machine in found.items() if machine is not None}


def _merit(machine: base.Machine) -> tuple[t.Any, ...]:
    order = (base.RUNNING, base.STOPPED, base.BUILDING, base.MADE, base.ERROR)
    place = order.index(machine.state) if machine.state in order else len(order)
    return (place, not machine.ready, machine.id)


def make_plan(
    spec: fleet_spec.FleetSpec,
    observed: base.Observed,
    capabilities: base.Capabilities,
    options: Options = Options(),
) -> Plan:
    """The plan. Never raises for what it finds: a plan that must not be carried out has ``problems``."""
    return _Planner(spec, observed, capabilities, options).plan()


class _Planner:
    def __init__(
        self,
        spec: fleet_spec.FleetSpec,
        observed: base.Observed,
        capabilities: base.Capabilities,
        options: Options,
    ) -> None:
        self.spec = spec
        self.site = spec.site
        self.provider = spec.cloud.provider
        self.observed = observed
        self.can = capabilities
        self.options = options
        self.ours = owned(self.site, self.provider, observed)
        self.actions: list[Action] = []
        self.notes: list[Note] = []
        self.problems: list[str] = []
        self.faults: list[str] = []
        self.going: dict[tuple[str, str], str] = {}
        """{(kind, id): key of the action that deletes it}"""
        self.replaced: dict[str, tuple[list[str], set[str]]] = {}
        """{host that is made anew: the keys of the actions that make room for it, the ids of its volumes that go}"""

    def plan(self) -> Plan:
        if self.options.state == "absent":
            self.absent()
        else:
            self.present()
        needs = self.quota()
        return Plan(
            site=self.site,
            provider=self.provider,
            actions=tuple(self.actions),
            notes=tuple(self.notes),
            problems=tuple(self.problems),
            faults=tuple(self.faults),
            needs=needs,
        )

    def note(self, what: str, kind: str, name: str, detail: str) -> None:
        self.notes.append(Note(what, kind, name, detail))

    # ------------------------------------------------------------------ present

    def present(self) -> None:
        hosts = self.spec.hosts()
        names = {host.name for host in hosts}
        for name in self.options.replace:
            if name not in names:
                self.problems.append(
                    f"replace: {name}: no host of the fleet file; write one of {', '.join(sorted(names))}"
                )
        if not self.can.make:
            self.note_unmade(hosts)
            return
        self.adopt(hosts)
        self.make_room(hosts)
        self.surplus({(host.machine.name, host.index) for host in hosts})
        self.networks()
        self.shared_volumes()
        addresses = self.addresses()
        for host in hosts:
            if host.name in self.spec.adopt and (host.machine.name, host.index) not in self.ours.hosts:
                continue  # it is taken over now, or there is a problem
            self.host(host, addresses.get(host.name, ""))

    def note_unmade(self, hosts: Iterable[fleet_spec.HostSpec]) -> None:
        if self.options.replace:
            self.problems.append(f"replace: cloud {self.provider} makes no machines; make it anew where it was made")
        for host in hosts:
            if (host.machine.name, host.index) not in self.ours.hosts:
                self.note("missing", MACHINE, host.name, f"cloud {self.provider} makes no machines")

    def adopt(self, hosts: Iterable[fleet_spec.HostSpec]) -> None:
        for host in hosts:
            wanted = self.spec.adopt.get(host.name)
            if wanted is None or (host.machine.name, host.index) in self.ours.hosts:
                continue
            path = f"adopt.{host.name}: {wanted}"
            found = [each for each in self.observed.machines if wanted in {each.id, each.name}]
            if not self.can.adopt:
                self.problems.append(f"{path}: cloud {self.provider} cannot tag a machine that exists; leave adopt out")
            elif len(found) != 1:
                count = f"{len(found)} machines have" if found else "no machine has"
                self.problems.append(f"{path}: {count} this name or id; write the id of one machine")
            elif found[0].tags.get(TAG_SITE):
                owner = found[0].tags[TAG_SITE]
                self.problems.append(f"{path}: belongs to the site {owner} already; take it out of that site first")
            else:
                tags = self.tags({TAG_MACHINE: host.machine.name, TAG_INDEX: str(host.index)})
                self.actions.append(Action(ADOPT, MACHINE, host.name, found[0].id, tags, f"takes over {found[0].name}"))

    def tags(self, more: Mapping[str, str]) -> dict[str, str]:
        return {TAG_SITE: self.site, **more}

    def delete(self, kind: str, resource: Resource, why: str, needs: tuple[str, ...] = ()) -> str:
        """Takes something of ours away. The key of the action, which may be in the plan already."""
        if (kind, resource.id) not in self.going:
            action = Action(DELETE, kind, resource.name, resource.id, detail=why, needs=needs)
            self.actions.append(action)
            self.going[kind, resource.id] = action.key
        return self.going[kind, resource.id]

    def name_is_free(self, kind: str, name: str, resources: Iterable[Resource]) -> bool:
        """Whether nothing that stays has the name; a problem is noted when something has."""
        others = [each for each in resources if each.name == name and (kind, each.id) not in self.going]
        if not others:
            return True
        if owns(self.site, self.provider, kind, others[0], self.ours.machines):
            self.problems.append(
                f"{kind} {name}: exists already, is of the site {self.site}, and does not say what it is for; "
                "take it away with prune: true, or by hand when it is a volume with data"
            )
            return False
        way_out = "give the site another name, or rename the other one"
        if kind == MACHINE:
            way_out = f"adopt it (adopt: {{{name}: …}}), or rename one of them"
        self.problems.append(f"{kind} {name}: exists already and is not of the site {self.site}; {way_out}")
        return False

    def before(self, kind: str, name: str, resources: Iterable[Resource]) -> list[str]:
        """The keys of the actions that free a name."""
        return [self.going[kind, each.id] for each in resources if each.name == name and (kind, each.id) in self.going]

    def networks(self) -> None:
        for part, subnet in self.wanted_networks().items():
            name = reserved_name(self.site, part)
            existing = self.ours.networks.get(part)
            if existing:
                if existing.subnet and existing.subnet != subnet:
                    self.note(
                        "drift",
                        NETWORK,
                        existing.name,
                        f"subnet {existing.subnet}, wanted {subnet}: a network keeps its own; tear the site down",
                    )
                continue
            if not self.name_is_free(NETWORK, name, self.observed.networks):
                continue
            for other in self.observed.networks:
                if self.can.one_address_space and _overlap(other.subnet, subnet):
                    self.problems.append(
                        f"network {name}: {subnet}: shares addresses with the network {other.name} ({other.subnet}); "
                        "write another subnet"
                    )
            wanted = base.WantedNetwork(name, subnet, self.tags({TAG_NETWORK: part}))
            needs = tuple(self.before(NETWORK, name, self.observed.networks))
            self.actions.append(Action(CREATE, NETWORK, name, wanted=wanted, detail=subnet, needs=needs))

    def wanted_networks(self) -> dict[str, str]:
        """{part: subnet}; the site's own network has the part ''."""
        options = self.spec.cloud.options
        if not options.get("subnet"):
            return {}
        return {
            "": options["subnet"],
            **{name: str(subnet) for name, subnet in (options.get("networks") or {}).items()},
        }

    def network_name(self, part: str) -> str:
        """The name in the cloud of one of the site's networks."""
        existing = self.ours.networks.get(part)
        return existing.name if existing else reserved_name(self.site, part)

    def addresses(self) -> dict[str, str]:
        """{host name: private address}. A machine keeps the one it has."""
        own = {
            fleet_spec.host_name(self.site, *key): machine.private_address for key, machine in self.ours.hosts.items()
        }
        name = self.network_name("")
        for host in self.options.replace:
            # The new machine has the address of the old one, unless a twin of that has it too.
            if [each.addresses.get(name) for each in self.observed.machines].count(own.get(host)) > 1:
                own.pop(host, None)
        others = {f"/{each.id}": each.addresses.get(name, "") for each in self.observed.machines}
        others |= {f"/lost/{address}": address for address in self.observed.lost_addresses}
        return fleet_spec.private_addresses(self.spec, {**others, **own})

    # ------------------------------------------------------------------ volumes

    def shared_volumes(self) -> None:
        used = {name for machine in self.spec.machines if machine.count for name in machine.shared_dirs}
        for shared in self.spec.shared_dirs:
            if shared.source or shared.name not in used or self.shared_volume(shared.name):
                continue
            name = self.shared_volume_name(shared.name)
            if self.name_is_free(VOLUME, name, self.observed.volumes):
                tags = self.tags({TAG_SHARED: shared.name, TAG_KEEP: _word(shared.keep)})
                wanted = base.WantedVolume(name, 0, tags)
                needs = tuple(self.before(VOLUME, name, self.observed.volumes))
                self.actions.append(Action(CREATE, VOLUME, name, "", wanted, f"shared {shared.path}", needs))

    def shared_volume(self, name: str) -> base.Volume | None:
        return self.pick(each for each in self.ours.volumes if each.tags.get(TAG_SHARED) == name)

    def shared_volume_name(self, name: str) -> str:
        existing = self.shared_volume(name)
        return existing.name if existing else reserved_name(self.site, f"shared-{name}")

    def host_volumes(self, key: HostKey) -> list[base.Volume]:
        return [each for each in self.ours.volumes if host_key(each.tags) == key and each.tags.get(TAG_VOLUME)]

    def host_volume(self, key: HostKey, name: str) -> base.Volume | None:
        return self.pick(each for each in self.host_volumes(key) if each.tags.get(TAG_VOLUME) == name)

    @staticmethod
    def pick(volumes: Iterable[base.Volume]) -> base.Volume | None:
        """Of volumes that were made twice, the one in use counts."""
        return min(volumes, key=lambda each: (not each.attached_to, each.id), default=None)

    def volume_name(self, host: fleet_spec.HostSpec, name: str) -> str:
        existing = self.host_volume((host.machine.name, host.index), name)
        return existing.name if existing else f"omtd-{host.name}--{name}"

    def is_kept(self, volume: base.Volume) -> bool:
        """Whether a volume's data must stay. In doubt they stay: only a tag *and* a fleet file that do not say keep
        let a volume go."""
        if volume.tags.get(TAG_KEEP) != _word(False):
            return True
        shared = volume.tags.get(TAG_SHARED)
        if shared is not None:
            return any(each.name == shared and each.keep for each in self.spec.shared_dirs)
        key = host_key(volume.tags)
        if key is None or not volume.tags.get(TAG_VOLUME):
            return True
        return any(
            wanted.keep
            for machine in self.spec.machines
            if machine.name == key[0]
            for wanted in machine.volumes
            if wanted.name == volume.tags[TAG_VOLUME]
        )

    # ------------------------------------------------------------------ one host

    def make_room(self, hosts: Iterable[fleet_spec.HostSpec]) -> None:
        """Takes away the machines that are made anew."""
        for host in hosts:
            key = (host.machine.name, host.index)
            machine = self.ours.hosts.get(key)
            if machine and host.name in self.options.replace:
                self.replaced[host.name] = self.delete_host(machine, self.host_volumes(key), "is made anew")

    def host(self, host: fleet_spec.HostSpec, address: str) -> None:
        key = (host.machine.name, host.index)
        machine = self.ours.hosts.get(key)
        if machine is None or host.name in self.replaced:
            self.new_host(host, address, *self.replaced.get(host.name, ((), ())))
        else:
            self.existing_host(host, machine, address)

    def wanted_volume(self, host: fleet_spec.HostSpec, volume: fleet_spec.VolumeSpec) -> base.WantedVolume:
        tags = {
            TAG_MACHINE: host.machine.name,
            TAG_INDEX: str(host.index),
            TAG_VOLUME: volume.name,
            TAG_KEEP: _word(volume.keep),
        }
        return base.WantedVolume(self.volume_name(host, volume.name), volume.size_gib, self.tags(tags))

    def wanted_machine(self, host: fleet_spec.HostSpec, address: str) -> base.WantedMachine:
        machine = host.machine
        addresses = {}
        if self.wanted_networks():
            addresses = {self.network_name(""): address, **{self.network_name(part): "" for part in machine.networks}}
        mounts = [base.Mount(volume.path, volume=self.volume_name(host, volume.name)) for volume in machine.volumes]
        for name in machine.shared_dirs:
            shared = self.spec.shared_dir(name)
            volume_name = "" if shared.source else self.shared_volume_name(name)
            mounts.append(base.Mount(shared.path, volume=volume_name, source=shared.source))
        return base.WantedMachine(
            name=host.name,
            tags=self.tags({TAG_MACHINE: machine.name, TAG_INDEX: str(host.index)}),
            image=machine.image,
            flavor=machine.flavor,
            vcpus=machine.vcpus,
            ram_mib=machine.ram_mib,
            disk_gib=machine.disk_gib,
            addresses=addresses,
            mounts=tuple(mounts),
            public_ip=machine.public_ip,
            user_data=machine.user_data,
            metadata=dict(machine.metadata),
        )

    def new_host(
        self, host: fleet_spec.HostSpec, address: str, gone: t.Iterable[str] = (), replaced: t.Container[str] = ()
    ) -> None:
        """A host that is not there. ``gone``: actions that come before; ``replaced``: ids of volumes that go."""
        key = (host.machine.name, host.index)
        wanted = self.wanted_machine(host, address)
        if not self.name_is_free(MACHINE, host.name, self.observed.machines):
            return
        needs = [*gone, *self.before(MACHINE, host.name, self.observed.machines)]
        needs += [*(f"{CREATE} {NETWORK} {name}" for name in wanted.addresses)]
        for volume in host.machine.volumes:
            existing = self.host_volume(key, volume.name)
            if existing and existing.id not in replaced:
                needs += self.size(host, volume, existing)
                continue
            volume_wanted = self.wanted_volume(host, volume)
            if not self.name_is_free(VOLUME, volume_wanted.name, self.observed.volumes):
                continue
            first = (*gone, *self.before(VOLUME, volume_wanted.name, self.observed.volumes))
            detail = f"{volume.size_gib} GiB at {volume.path}" + (", kept" if volume.keep else "")
            create = Action(CREATE, VOLUME, volume_wanted.name, "", volume_wanted, detail, first)
            self.actions.append(create)
        needs += [f"{CREATE} {VOLUME} {mount.volume}" for mount in wanted.mounts if mount.volume]
        create = Action(CREATE, MACHINE, host.name, "", wanted, _machine_detail(wanted), tuple(dict.fromkeys(needs)))
        self.actions.append(create)
        self.actions.append(Action(CONTACT, MACHINE, host.name, "", wanted, "first contact", (create.key,)))
        if self.can.floating_addresses and wanted.public_ip:
            self.public_address(host, None, (create.key,))

    def existing_host(self, host: fleet_spec.HostSpec, machine: base.Machine, address: str) -> None:
        wanted = self.wanted_machine(host, address)
        if machine.state == base.ERROR:
            reason = f": {machine.fault}" if machine.fault else ""
            self.faults.append(f"{host.name}: in state error{reason}; make it anew with replace: [{host.name}]")
            return
        if machine.state == base.BUILDING:
            self.note("waiting", MACHINE, host.name, "the cloud is still making it; run again later")
            return
        needs: tuple[str, ...] = ()
        if machine.state in {base.STOPPED, base.MADE}:
            start = Action(START, MACHINE, host.name, machine.id, wanted, f"is {machine.state}")
            self.actions.append(start)
            needs = (start.key,)
        if not machine.ready:
            self.actions.append(Action(CONTACT, MACHINE, host.name, machine.id, wanted, "is not met yet", needs))
        self.drift(host, machine, wanted)
        self.existing_volumes(host, machine)
        if self.can.floating_addresses and wanted.public_ip:
            self.public_address(host, machine, needs)

    def drift(self, host: fleet_spec.HostSpec, machine: base.Machine, wanted: base.WantedMachine) -> None:
        """What a machine is that the file does not say. It is told, and not touched: every cure loses the machine."""
        for what, has, wants, unit in (
            ("image", machine.image, wanted.image, ""),
            ("flavor", machine.flavor, wanted.flavor, ""),
            ("vcpus", machine.vcpus, wanted.vcpus, ""),
            ("ram", machine.ram_mib, wanted.ram_mib, " MiB"),
            ("disk", machine.disk_gib, wanted.disk_gib, " GiB"),
        ):
            if has and wants and has != wants:
                self.note(
                    "drift", MACHINE, host.name, f"{what} {has}{unit}, wanted {wants}{unit}: replace: [{host.name}]"
                )
        for network in sorted(set(wanted.addresses) - set(machine.addresses)):
            self.note("drift", MACHINE, host.name, f"is not in the network {network}: replace: [{host.name}]")
        for network in sorted(set(machine.addresses) - set(wanted.addresses)):
            self.note("drift", MACHINE, host.name, f"is also in the network {network}: replace: [{host.name}]")
        if dict(machine.metadata) != dict(wanted.metadata):
            self.note("drift", MACHINE, host.name, f"has other metadata than the fleet file: replace: [{host.name}]")
        for name in host.machine.shared_dirs:
            if not self.spec.shared_dir(name).source and self.shared_volume_name(name) not in machine.volumes:
                self.note("drift", MACHINE, host.name, f"lacks the shared directory {name}: replace: [{host.name}]")

    def existing_volumes(self, host: fleet_spec.HostSpec, machine: base.Machine) -> None:
        key = (host.machine.name, host.index)
        for volume in host.machine.volumes:
            existing = self.host_volume(key, volume.name)
            if existing:
                self.size(host, volume, existing)
            name = self.volume_name(host, volume.name)
            if name in machine.volumes:
                continue
            if not self.can.attach_volumes:
                self.note("drift", MACHINE, host.name, f"lacks the volume {volume.name}: replace: [{host.name}]")
                continue
            needs: tuple[str, ...] = ()
            if not existing:
                if not self.name_is_free(VOLUME, name, self.observed.volumes):
                    continue
                create = Action(
                    CREATE,
                    VOLUME,
                    name,
                    "",
                    self.wanted_volume(host, volume),
                    f"{volume.size_gib} GiB at {volume.path}",
                )
                self.actions.append(create)
                needs = (create.key,)
            elif existing.attached_to:
                self.note("drift", VOLUME, name, f"is attached to another machine than {host.name}: detach it there")
                continue
            self.actions.append(Action(ATTACH, VOLUME, name, machine.id, host.name, f"to {host.name}", needs))

    def size(self, host: fleet_spec.HostSpec, volume: fleet_spec.VolumeSpec, existing: base.Volume) -> list[str]:
        """A volume grows, or stays; it never shrinks. The keys of the actions that this needs."""
        if not existing.size_gib or volume.size_gib == existing.size_gib:
            return []
        path = f"machines.{host.machine.name}." + ("disk" if volume.implied else f"volumes.{volume.name}.size")
        if volume.size_gib < existing.size_gib:
            self.problems.append(
                f"{path}: {volume.size_gib} GiB is less than {existing.name} has ({existing.size_gib} GiB), "
                f"and a volume never shrinks; write {existing.size_gib} GiB or more"
            )
            return []
        if not self.can.grow_volumes:
            self.note(
                "drift",
                VOLUME,
                existing.name,
                f"{existing.size_gib} GiB, wanted {volume.size_gib} GiB: cloud {self.provider} cannot grow it",
            )
            return []
        grow = Action(
            GROW,
            VOLUME,
            existing.name,
            existing.id,
            self.wanted_volume(host, volume),
            f"{existing.size_gib} → {volume.size_gib} GiB",
        )
        self.actions.append(grow)
        return [grow.key]

    def public_address(self, host: fleet_spec.HostSpec, machine: base.Machine | None, needs: tuple[str, ...]) -> None:
        if machine and machine.public_address:
            return
        name = f"omtd-{host.name}--public"
        tags = self.tags({TAG_MACHINE: host.machine.name, TAG_INDEX: str(host.index)})
        wanted = base.WantedAddress(name, host.name, tags, machine.id if machine else "")
        self.actions.append(Action(CREATE, ADDRESS, name, "", wanted, f"for {host.name}", needs))

    # ------------------------------------------------------------------ taking away

    def surplus(self, wanted: t.Container[HostKey]) -> None:
        """What is ours and not in the fleet file: told, and taken away with ``prune``."""
        surplus = [(machine, "not in the fleet file") for key, machine in self.ours.hosts.items() if key not in wanted]
        surplus += [
            (machine, "made twice" if host_key(machine.tags) else "half made") for machine in self.ours.other_machines
        ]
        for machine, why in surplus:
            self.goes(MACHINE, machine, why)
        # Without `prune` no surplus machine goes, and what only it uses is surplus all the same.
        machine_keys = {identity: key for (kind, identity), key in self.going.items() if kind == MACHINE}
        remaining = (
            {each.id for each in self.observed.machines} - {each.id for each, _why in surplus} - set(machine_keys)
        )
        for volume in self.ours.volumes:
            if self.volume_is_wanted(volume, wanted):
                continue
            if remaining & set(volume.attached_to):
                self.note("surplus", VOLUME, volume.name, "not in the fleet file, but a machine that stays has it")
            elif self.is_kept(volume):
                self.note("kept", VOLUME, volume.name, "not in the fleet file; its data stay")
            else:
                needs = tuple(machine_keys[each] for each in volume.attached_to if each in machine_keys)
                self.goes(VOLUME, volume, "not in the fleet file", needs)
        after = tuple(machine_keys.values())
        for network in (
            *(network for part, network in self.ours.networks.items() if part not in self.wanted_networks()),
            *self.ours.other_networks,
        ):
            users = sorted(
                machine.name
                for machine in self.observed.machines
                if network.name in machine.addresses and machine.id in remaining
            )
            if users:
                self.note("surplus", NETWORK, network.name, f"not in the fleet file, but used by {', '.join(users)}")
            else:
                self.goes(NETWORK, network, "not in the fleet file", after)
        for address in self.ours.addresses:
            if address.attached_to not in remaining:
                self.goes(ADDRESS, address, "of no machine", _some(machine_keys.get(address.attached_to)))

    def volume_is_wanted(self, volume: base.Volume, wanted: t.Container[HostKey]) -> bool:
        shared = volume.tags.get(TAG_SHARED)
        if shared is not None:
            return self.shared_volume(shared) is volume and any(
                each.name == shared and not each.source for each in self.spec.shared_dirs
            )
        key = host_key(volume.tags)
        if key is None or key not in wanted:
            return False
        names = {each.name for machine in self.spec.machines if machine.name == key[0] for each in machine.volumes}
        name = volume.tags.get(TAG_VOLUME, "")
        return name in names and self.host_volume(key, name) is volume

    def goes(self, kind: str, resource: Resource, why: str, needs: tuple[str, ...] = ()) -> None:
        """Something surplus goes when pruning is asked for, and is told of otherwise."""
        if self.options.prune:
            self.delete(kind, resource, why, needs)
        elif (kind, resource.id) not in self.going:
            self.note("surplus", kind, resource.name, f"{why}; prune: true takes it away")

    def delete_host(
        self, machine: base.Machine, volumes: Iterable[base.Volume], why: str
    ) -> tuple[list[str], set[str]]:
        """Deletes a machine and those of its volumes that are not kept, and its addresses: the actions' keys, the
        volumes' ids."""
        keys, ids = [self.delete(MACHINE, machine, why)], set()
        for volume in volumes:
            if self.is_kept(volume) or set(volume.attached_to) - {machine.id}:
                continue
            keys.append(self.delete(VOLUME, volume, why, (keys[0],)))
            ids.add(volume.id)
        for address in self.ours.addresses:
            if address.attached_to == machine.id and host_key(address.tags) == host_key(machine.tags):
                keys.append(self.delete(ADDRESS, address, why, (keys[0],)))
        return keys, ids

    def absent(self) -> None:
        """The whole site goes, but for what it is told to keep and what strangers use."""
        if self.options.confirm != self.site:
            given = self.options.confirm or "nothing"
            self.problems.append(
                f"confirm: {given}: the whole site would be taken away; write confirm: {self.site} to mean it"
            )
        if not self.can.make:
            self.problems.append(f"state: absent: cloud {self.provider} makes no machines and takes none away")
        if self.problems:
            return
        why = "the site goes"
        machines = {machine.id: machine for machine in self.ours.machines}
        for machine in machines.values():
            self.actions.append(Action(DELETE, MACHINE, machine.name, machine.id, detail=why))
        after = tuple(action.key for action in self.actions)
        strangers = [machine for machine in self.observed.machines if machine.id not in machines]
        resources: list[tuple[str, t.Any, set[str]]] = []
        for volume in self.ours.volumes:
            if self.is_kept(volume) and not self.options.delete_kept_volumes:
                self.note("kept", VOLUME, volume.name, "its data stay; delete_kept_volumes: true takes them away")
            else:
                resources.append((VOLUME, volume, set(volume.attached_to)))
        resources += [(ADDRESS, address, {address.attached_to}) for address in self.ours.addresses]
        for network in (*self.ours.networks.values(), *self.ours.other_networks):
            users = {machine.id for machine in self.observed.machines if network.name in machine.addresses}
            resources.append((NETWORK, network, users))
        for kind, resource, ids in resources:
            users = {machine.name for machine in strangers if machine.id in ids}
            if users:
                self.note("kept", kind, resource.name, f"used by {', '.join(sorted(users))}, which is not of the site")
            else:
                self.actions.append(Action(DELETE, kind, resource.name, resource.id, detail=why, needs=after))

    # ------------------------------------------------------------------ quota

    def quota(self) -> tuple[Need, ...]:
        """What the plan needs of what the cloud limits. Machines that are made anew give back what they had."""
        needed: dict[str, int] = {}

        def add(sign: int = 1, **amounts: int) -> None:
            for name, amount in amounts.items():
                needed[name] = needed.get(name, 0) + sign * amount

        anew = {action.id for action in self.actions if action.verb == DELETE and action.detail == "is made anew"}
        for machine in self.observed.machines:
            if machine.id in anew:
                add(-1, machines=1, vcpus=machine.vcpus, ram_mib=machine.ram_mib, disk_gib=machine.disk_gib)
        for volume in self.observed.volumes:
            if volume.id in anew:
                add(-1, volumes=1, volumes_gib=volume.size_gib)
        sizes = {volume.id: volume.size_gib for volume in self.observed.volumes}
        for action in self.actions:
            wanted = action.wanted
            if (action.verb, action.kind) == (CREATE, MACHINE):
                add(machines=1, vcpus=wanted.vcpus, ram_mib=wanted.ram_mib, disk_gib=wanted.disk_gib)
            elif (action.verb, action.kind) == (CREATE, VOLUME):
                add(volumes=1, volumes_gib=wanted.size_gib)
            elif (action.verb, action.kind) == (GROW, VOLUME):
                add(volumes_gib=wanted.size_gib - sizes.get(action.id, 0))
            elif action.verb == CREATE:
                add(**{"networks" if action.kind == NETWORK else "addresses": 1})
        needs = tuple(
            Need(name, max(needed.get(name, 0), 0), quota.limit, quota.used)
            for name, quota in sorted(self.observed.quota.items())
        )
        for need in needs:
            if not need.fits:
                self.problems.append(
                    f"quota: {need.name}: {need.needed} needed, {max(need.free, 0)} of {need.limit} free; "
                    "make the fleet smaller, or ask for more quota"
                )
        return needs


# ----------------------------------------------------------------------------------------------------- for people


def render(plan: Plan) -> str:
    """The plan as a table that people read. Ends with a newline."""
    rows = [(action.verb, action.kind, action.name, action.detail) for action in plan.actions]
    rows += [(note.what, note.kind, note.name, note.detail) for note in plan.notes]
    lines = [summary(plan)]
    if rows:
        head = ("action", "kind", "name", "details")
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(3)]
        for row in [head, *rows]:
            cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
            lines.append("  " + "  ".join(cells).rstrip())
    lines += [
        f"  quota: {need.name}: {need.needed} needed, {max(need.free, 0)} of {need.limit} free"
        for need in plan.needs
        if need.needed
    ]
    lines += [f"  broken: {fault}" for fault in plan.faults]
    lines += [f"  refused: {problem}" for problem in plan.problems]
    return "\n".join(lines) + "\n"


def summary(plan: Plan) -> str:
    """One line: ``lab on podman: create 5 machines, 1 network; 2 notes``."""
    counts: dict[tuple[str, str], int] = {}
    for action in plan.actions:
        if action.verb != CONTACT or not any(
            other.verb == CREATE and other.kind == MACHINE and other.name == action.name for other in plan.actions
        ):
            counts[action.verb, action.kind] = counts.get((action.verb, action.kind), 0) + 1
    plural = {ADDRESS: "addresses"}
    parts = [
        f"{verb} {count} {kind if count == 1 else plural.get(kind, kind + 's')}"
        for (verb, kind), count in counts.items()
    ]
    return f"{plan.site} on {plan.provider}: {', '.join(parts) if parts else 'nothing to do'}"


def _machine_detail(wanted: base.WantedMachine) -> str:
    size = wanted.flavor or f"{wanted.vcpus} vCPU, {wanted.ram_mib} MiB"
    address = next((address for address in wanted.addresses.values() if address), "")
    return ", ".join(part for part in (wanted.image, size, address) if part)


def _overlap(one: str, other: str) -> bool:
    """Whether two networks share addresses. What is no IPv4 network shares none."""
    try:
        return ipaddress.IPv4Network(one).overlaps(ipaddress.IPv4Network(other))
    except ValueError:
        return False


def _word(value: bool) -> str:
    return "true" if value else "false"


def _some(key: str | None) -> tuple[str, ...]:
    return (key,) if key else ()
