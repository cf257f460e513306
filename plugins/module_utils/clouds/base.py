# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every cloud can be asked, and what it answers. An adapter translates; it decides nothing.

What may be made, changed or taken away is decided in ``fleet/plan.py``; in which order and how many at a time in
``fleet/apply.py``. Both see a cloud through :class:`Cloud` and the values below only.
"""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from ..fleet.spec import FleetSpec

Tags = t.Mapping[str, str]
Report = t.Callable[[str], None]
"""Told every state that a resource comes to, in a few words: ``started``, ``answers ssh``."""


class CloudError(Exception):
    """The cloud refused, failed or does not answer. The message names the thing and what the cloud said."""


class CloudUnavailableError(CloudError):
    """The cloud does not answer at all, or cannot be used from this computer. Nothing can be known about it now."""


# ------------------------------------------------------------------------------------------- what a cloud has

RUNNING = "running"
STOPPED = "stopped"
MADE = "made"
"""Made, and never started: its maker was stopped half way."""
BUILDING = "building"
ERROR = "error"


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine that the cloud has, ours or not. Memory in MiB, disk in GiB; 0 and '' when the cloud does not say."""

    id: str
    name: str
    tags: Tags = dataclasses.field(default_factory=dict)
    state: str = RUNNING
    ready: bool = True
    """its host keys are pinned and it lets the operator in"""
    image: str = ""
    flavor: str = ""
    vcpus: int = 0
    ram_mib: int = 0
    disk_gib: int = 0
    addresses: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """{name of the network: private address}"""
    private_address: str = ""
    public_address: str = ""
    volumes: tuple[str, ...] = ()
    """names of the volumes attached"""
    metadata: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    records: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """{kind/id: site}: what we wrote into the machine's own metadata about resources that cannot be tagged"""
    user: str = ""
    port: int = 22
    identity_file: str = ""
    host_key_alias: str = ""
    fault: str = ""
    """what the cloud says is wrong with it"""


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that the cloud has. ``subnet`` as ``172.31.77.0/24``, '' when unknown."""

    id: str
    name: str
    tags: Tags = dataclasses.field(default_factory=dict)
    subnet: str = ""


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume that the cloud has. ``size_gib`` in GiB; ``attached_to``: ids of machines."""

    id: str
    name: str
    tags: Tags = dataclasses.field(default_factory=dict)
    size_gib: int = 0
    attached_to: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Address:
    """A public address that the cloud has. ``attached_to`` is the id of a machine, or ''."""

    id: str
    name: str
    tags: Tags = dataclasses.field(default_factory=dict)
    attached_to: str = ""


@dataclasses.dataclass(frozen=True)
class Quota:
    """How much of one thing we may have, and have. In the unit of the thing's name: ``ram_mib``, ``machines``."""

    limit: int
    used: int = 0


@dataclasses.dataclass(frozen=True)
class Observed:
    """Everything that a cloud lists, ours or not: foreign resources are seen so that they can be left alone."""

    machines: tuple[Machine, ...] = ()
    networks: tuple[Network, ...] = ()
    volumes: tuple[Volume, ...] = ()
    addresses: tuple[Address, ...] = ()
    quota: t.Mapping[str, Quota] = dataclasses.field(default_factory=dict)
    lost_addresses: tuple[str, ...] = ()
    """private addresses that the cloud refuses to give, though no machine has them"""


# ----------------------------------------------------------------------------------------- what a cloud is asked


@dataclasses.dataclass(frozen=True)
class WantedNetwork:
    """A network to make."""

    name: str
    subnet: str
    tags: Tags


@dataclasses.dataclass(frozen=True)
class WantedVolume:
    """A volume to make, or to grow to ``size_gib``."""

    name: str
    size_gib: int
    tags: Tags


@dataclasses.dataclass(frozen=True)
class Mount:
    """A volume, or a directory of the cloud's host, in a machine."""

    path: str
    volume: str = ""
    source: str = ""


@dataclasses.dataclass(frozen=True)
class WantedMachine:
    """A machine to make, in full. Memory in MiB, disk in GiB."""

    name: str
    tags: Tags
    image: str
    flavor: str = ""
    vcpus: int = 0
    ram_mib: int = 0
    disk_gib: int = 0
    addresses: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """{name of the network: address; '' for one that the cloud chooses}"""
    mounts: tuple[Mount, ...] = ()
    public_ip: bool = False
    user_data: str = ""
    metadata: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What a cloud can do. The plan asks for nothing else."""

    make: bool = True
    """it makes and takes away machines"""
    adopt: bool = False
    """an existing machine can be tagged"""
    grow_volumes: bool = False
    attach_volumes: bool = False
    """a volume can be attached to a machine that is there"""
    floating_addresses: bool = False
    """public addresses are resources of their own"""
    one_address_space: bool = False
    """all networks lie in one address space: two cannot have the same addresses"""


class Lock(t.Protocol):
    """The right to change a site, for a limited time."""

    def renew(self) -> None:
        """Prolongs it. Raises CloudError when somebody else has taken it meanwhile."""

    def release(self) -> None:
        """Gives it back. Never raises."""


class Cloud(t.Protocol):
    """One cloud, seen from one site. Methods raise CloudError, and may be called from several threads.

    Every call is safe to repeat: what is made already is found by its tags, what is gone is gone. A machine's
    ``id`` and ``name`` in a call come from what the cloud listed, so that never a name alone decides.
    """

    provider: str
    capabilities: Capabilities

    def observe(self) -> Observed:
        """What there is: one list call a kind and page, none a machine."""

    def prepare(self, machines: t.Sequence[WantedMachine], report: Report) -> None:
        """What several machines need before they can be made, for instance an image. Called once, before them."""

    def lock(self, holder: str, seconds: int) -> Lock:
        """Takes the site's lock. Raises CloudError that names who has it."""

    def create_network(self, network: WantedNetwork) -> None: ...

    def delete_network(self, network_id: str) -> None: ...

    def create_volume(self, volume: WantedVolume) -> None: ...

    def grow_volume(self, volume_id: str, volume: WantedVolume) -> None: ...

    def attach_volume(self, volume_name: str, machine_id: str) -> None: ...

    def delete_volume(self, volume_id: str) -> None: ...

    def create_address(self, address: WantedAddress) -> None: ...

    def delete_address(self, address_id: str) -> None: ...

    def create_machine(self, machine: WantedMachine, report: Report) -> None:
        """Makes and starts it. It need not let anybody in yet."""

    def start_machine(self, machine_id: str, machine: WantedMachine, report: Report) -> None:
        """Starts one that is stopped, or that was made and never started."""

    def contact_machine(self, machine: WantedMachine, report: Report) -> None:
        """Meets a running machine: first-contact keys are exchanged for its own, and those are pinned."""

    def adopt_machine(self, machine_id: str, tags: Tags) -> None:
        """Tags a machine that somebody else made."""

    def delete_machine(self, machine_id: str, machine_name: str) -> None: ...


@dataclasses.dataclass(frozen=True)
class WantedAddress:
    """A public address to make and attach to a machine: by its id when the plan saw it, else by its name, because
    it is made in the same plan."""

    name: str
    machine: str
    tags: Tags
    machine_id: str = ""


def connect(spec: FleetSpec) -> Cloud:
    """The adapter of a site's cloud. Contacts nobody yet."""
    if spec.cloud.provider == "podman":
        from .podman import PodmanCloud  # noqa: PLC0415 - a cloud's adapter is loaded when it is needed

        return PodmanCloud(spec)
    if spec.cloud.provider == "existing":
        from .existing import ExistingCloud  # noqa: PLC0415

        return ExistingCloud(spec)
    raise CloudUnavailableError(f"cloud.provider: {spec.cloud.provider}: this release has no adapter for it")
