# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that somebody else made: the fleet file says where they are, and nothing is ever made or taken away."""

from __future__ import annotations

import typing as t
from pathlib import Path

from .base import (
    RUNNING,
    Capabilities,
    CloudError,
    Lock,
    Machine,
    Observed,
    Report,
    Tags,
    WantedAddress,
    WantedMachine,
    WantedNetwork,
    WantedVolume,
)

if t.TYPE_CHECKING:
    from ..fleet.spec import FleetSpec


class NoLock:
    """Nothing is changed, so nobody is kept out."""

    def renew(self) -> None:
        """Always succeeds."""

    def release(self) -> None:
        """Always succeeds."""


class ExistingCloud:
    """The cloud that has exactly the machines of the fleet file. What the plan may not ask for raises CloudError."""

    provider = "existing"
    capabilities = Capabilities(make=False)

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec

    def observe(self) -> Observed:
        """The machines as the fleet file has them. Contacts none: whether they answer is for validate to find out."""
        options = self.spec.cloud.options
        identity = str(options.get("identity_file") or "")
        machines = []
        for host in self.spec.hosts():
            if host.address is None:
                continue
            machine = host.machine
            machines.append(
                Machine(
                    id=host.name,
                    name=host.name,
                    tags={"omtd_site": self.spec.site, "omtd_machine": machine.name, "omtd_index": str(host.index)},
                    state=RUNNING,
                    image=machine.image,
                    flavor=machine.flavor,
                    vcpus=machine.vcpus,
                    ram_mib=machine.ram_mib,
                    disk_gib=machine.disk_gib,
                    private_address=host.address.private,
                    public_address=host.address.public,
                    volumes=tuple(volume.name for volume in machine.volumes),
                    metadata=dict(machine.metadata),
                    user=host.address.user or str(options.get("user") or ""),
                    port=host.address.port,
                    identity_file=str(Path(identity).expanduser()) if identity else "",
                )
            )
        return Observed(machines=tuple(machines))

    def prepare(self, machines: t.Sequence[WantedMachine], report: Report) -> None:
        """Nothing is needed."""

    def lock(self, holder: str, seconds: int) -> Lock:
        """A lock that keeps nobody out."""
        return NoLock()

    def _refuse(self, what: str) -> CloudError:
        return CloudError(
            f"{what}: cloud.provider is existing: machines that somebody else made are neither made nor changed; "
            "do it yourself and write the address into the fleet file, or choose another provider"
        )

    def create_network(self, network: WantedNetwork) -> None:
        raise self._refuse(network.name)

    def delete_network(self, network_id: str) -> None:
        raise self._refuse(network_id)

    def create_volume(self, volume: WantedVolume) -> None:
        raise self._refuse(volume.name)

    def grow_volume(self, volume_id: str, volume: WantedVolume) -> None:
        raise self._refuse(volume.name)

    def attach_volume(self, volume_name: str, machine_id: str) -> None:
        raise self._refuse(volume_name)

    def delete_volume(self, volume_id: str) -> None:
        raise self._refuse(volume_id)

    def create_address(self, address: WantedAddress) -> None:
        raise self._refuse(address.name)

    def delete_address(self, address_id: str) -> None:
        raise self._refuse(address_id)

    def create_machine(self, machine: WantedMachine, report: Report) -> None:
        raise self._refuse(machine.name)

    def start_machine(self, machine_id: str, machine: WantedMachine, report: Report) -> None:
        raise self._refuse(machine.name)

    def contact_machine(self, machine: WantedMachine, report: Report) -> None:
        """Host keys of machines that exist are the operator's to know: nothing is pinned on trust."""

    def adopt_machine(self, machine_id: str, tags: Tags) -> None:
        raise self._refuse(machine_id)

    def delete_machine(self, machine_id: str, machine_name: str) -> None:
        raise self._refuse(machine_name)
