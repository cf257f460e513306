# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud in memory for tests of the plan: it does what it is told, to whatever it is told, and knows no owners."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import typing as t

from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base


class MemoryLock:
    """A lock that is always had."""

    def renew(self) -> None:
        """Nothing to do."""

    def release(self) -> None:
        """Nothing to do."""


class MemoryCloud:
    """Keeps machines, networks, volumes and addresses by id. ``fails`` names machines that cannot be made."""

    provider = "podman"

    def __init__(self, observed: base.Observed, capabilities: base.Capabilities, fails: t.Container[str] = ()) -> None:
        self.capabilities = capabilities
        self.machines = {each.id: each for each in observed.machines}
        self.networks = {each.id: each for each in observed.networks}
        self.volumes = {each.id: each for each in observed.volumes}
        self.addresses = {each.id: each for each in observed.addresses}
        self.quota = observed.quota
        self.fails = fails
        self.calls: list[str] = []
        self.deleted: list[str] = []
        # ids that are new here, also when the observed ones came from another cloud in memory
        taken = {*self.machines, *self.networks, *self.volumes, *self.addresses}
        self._numbers = (each for each in itertools.count(1) if f"new-{each}" not in taken)
        self._lock = threading.RLock()

    def observe(self) -> base.Observed:
        users: dict[str, list[str]] = {}
        for machine in self.machines.values():
            for volume in machine.volumes:
                users.setdefault(volume, []).append(machine.id)
        return base.Observed(
            tuple(self.machines.values()),
            tuple(self.networks.values()),
            tuple(
                dataclasses.replace(each, attached_to=tuple(users.get(each.name, ())) or each.attached_to)
                for each in self.volumes.values()
            ),
            tuple(self.addresses.values()),
            self.quota,
        )

    def _id(self) -> str:
        return f"new-{next(self._numbers)}"

    def prepare(self, machines: t.Sequence[base.WantedMachine], report: base.Report) -> None:
        self.calls.append("prepare")

    def lock(self, holder: str, seconds: int) -> MemoryLock:
        return MemoryLock()

    def create_network(self, network: base.WantedNetwork) -> None:
        with self._lock:
            assert network.name not in {each.name for each in self.networks.values()}, "a second network of the name"
            number = self._id()
            self.networks[number] = base.Network(number, network.name, dict(network.tags), network.subnet)

    def create_volume(self, volume: base.WantedVolume) -> None:
        with self._lock:
            assert volume.name not in {each.name for each in self.volumes.values()}, "a second volume of the name"
            number = self._id()
            self.volumes[number] = base.Volume(number, volume.name, dict(volume.tags), volume.size_gib)

    def create_address(self, address: base.WantedAddress) -> None:
        with self._lock:
            machine = self.machines.get(address.machine_id) or next(
                each for each in self.machines.values() if each.name == address.machine
            )
            number = self._id()
            self.addresses[number] = base.Address(number, address.name, dict(address.tags), machine.id)
            self.machines[machine.id] = dataclasses.replace(machine, public_address="192.0.2.7")

    def create_machine(self, machine: base.WantedMachine, report: base.Report) -> None:
        with self._lock:
            self.calls.append(f"create {machine.name}")
            if machine.name in self.fails:
                raise base.CloudError(f"{machine.name}: no host has room for it")
            assert machine.name not in {each.name for each in self.machines.values()}, "a second machine of the name"
            names = {each.name for each in self.volumes.values()}
            assert {mount.volume for mount in machine.mounts if mount.volume} <= names, "a volume that is not there"
            networks = {each.name for each in self.networks.values()}
            assert set(machine.addresses) <= networks, "a network that is not there"
            number = self._id()
            private = next((address for address in machine.addresses.values() if address), "")
            self.machines[number] = base.Machine(
                number, machine.name, dict(machine.tags), base.RUNNING, False, machine.image, machine.flavor,
                machine.vcpus, machine.ram_mib, machine.disk_gib, dict(machine.addresses), private,
                volumes=tuple(mount.volume for mount in machine.mounts if mount.volume),
                metadata=dict(machine.metadata),
            )  # fmt: skip
            report("is made")

    def start_machine(self, machine_id: str, machine: base.WantedMachine, report: base.Report) -> None:
        with self._lock:
            self.machines[machine_id] = dataclasses.replace(self.machines[machine_id], state=base.RUNNING)

    def contact_machine(self, machine: base.WantedMachine, report: base.Report) -> None:
        with self._lock:
            self.calls.append(f"contact {machine.name}")
            tags = dict(machine.tags)
            for number, each in self.machines.items():
                if {key: each.tags.get(key) for key in tags} == tags and each.state == base.RUNNING and not each.ready:
                    self.machines[number] = dataclasses.replace(each, ready=True)
                    return
            raise base.CloudError(f"{machine.name}: is not there")

    def adopt_machine(self, machine_id: str, tags: base.Tags) -> None:
        with self._lock:
            machine = self.machines[machine_id]
            self.machines[machine_id] = dataclasses.replace(machine, tags={**machine.tags, **tags})

    def grow_volume(self, volume_id: str, volume: base.WantedVolume) -> None:
        with self._lock:
            assert volume.size_gib > self.volumes[volume_id].size_gib, "a volume that shrinks"
            self.volumes[volume_id] = dataclasses.replace(self.volumes[volume_id], size_gib=volume.size_gib)

    def attach_volume(self, volume_name: str, machine_id: str) -> None:
        with self._lock:
            machine = self.machines[machine_id]
            self.machines[machine_id] = dataclasses.replace(machine, volumes=(*machine.volumes, volume_name))

    def delete_machine(self, machine_id: str, machine_name: str) -> None:
        with self._lock:
            assert self.machines.pop(machine_id).name == machine_name
            self.deleted.append(machine_id)

    def delete_volume(self, volume_id: str) -> None:
        with self._lock:
            name = self.volumes[volume_id].name
            assert not any(name in each.volumes for each in self.machines.values()), "a volume that is in use"
            del self.volumes[volume_id]
            self.deleted.append(volume_id)

    def delete_network(self, network_id: str) -> None:
        with self._lock:
            name = self.networks[network_id].name
            assert not any(name in each.addresses for each in self.machines.values()), "a network that is in use"
            del self.networks[network_id]
            self.deleted.append(network_id)

    def delete_address(self, address_id: str) -> None:
        with self._lock:
            del self.addresses[address_id]
            self.deleted.append(address_id)
