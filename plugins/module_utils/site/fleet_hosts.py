# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a site as Ansible sees them: what the fleet file wants, joined with what the cloud has."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import typing as t
from pathlib import Path

from ..clouds import base
from ..fleet import plan
from ..fleet import spec as fleet_spec
from . import ssh_config

State = dict[str, t.Any]
"""{"machines": {host name: {"private_address": "", "public_address": "", ...}}}: plain data, for the cache."""


@dataclasses.dataclass
class Host:
    """A host as Ansible gets it. Part of ``variables`` came from a cloud, so none is to be trusted as a template."""

    name: str
    groups: tuple[str, ...]
    variables: dict[str, t.Any]
    jump: str = ""


def merge(spec: fleet_spec.FleetSpec, state: State) -> list[Host]:
    """The hosts of the site, wanted joined with observed."""
    observed: dict[str, dict[str, t.Any]] = state.get("machines", {})
    alike = {machine.name: _machine_variables(spec, machine) for machine in spec.machines}
    user = str(spec.cloud.options.get("user") or "debian")
    hosts = []
    for wanted in spec.hosts():
        seen = observed.get(wanted.name, {})
        private, public = str(seen.get("private_address") or ""), str(seen.get("public_address") or "")
        present = bool(seen.get("present") and (private or public))
        variables = {
            **alike[wanted.machine.name],
            "fleet_index": wanted.index,
            "fleet_state": "present" if present else "absent",
            # A name that no resolver knows (RFC 2606): nobody logs in to a stranger that has the name of a host to be.
            "ansible_host": (public or private) if present else f"{wanted.name}.absent.invalid",
            "ansible_user": str(seen.get("user") or user),
            "fleet_private_address": private,
            "fleet_public_address": public,
        }
        if int(seen.get("port") or 22) != 22:
            variables["ansible_port"] = int(seen["port"])
        hosts.append(Host(wanted.name, wanted.machine.groups, variables))
    _through_jump_host(hosts)
    return hosts


def _machine_variables(spec: fleet_spec.FleetSpec, machine: fleet_spec.MachineSpec) -> dict[str, t.Any]:
    """What all hosts of one machine entry have in common."""
    return {
        "ansible_ssh_common_args": f"-F {shlex.quote(str(ssh_config_path(spec)))}",
        # Ansible keeps connections open by address, and two sites may have the same private addresses behind different
        # jump hosts: without a folder of its own, a run would talk to the machine of the other site.
        "ansible_control_path_dir": f"~/.ansible/cp/{hashlib.sha256(spec.folder.encode()).hexdigest()[:8]}",
        "fleet_site": spec.site,
        "fleet_machine": machine.name,
        "fleet_vcpus": machine.vcpus,
        "fleet_ram_mib": machine.ram_mib,
        "fleet_disk_gib": machine.disk_gib,
        "fleet_volumes": {
            volume.name: {"size_gib": volume.size_gib, "keep": volume.keep, "path": volume.path}
            for volume in machine.volumes
        },
        "fleet_groups": list(machine.groups),
    }


def ssh_config_path(spec: fleet_spec.FleetSpec) -> Path:
    """The generated ssh_config of the site."""
    return Path(spec.folder) / ".fleet" / "ssh_config"


def _through_jump_host(hosts: list[Host]) -> None:
    """Hosts without a public address are reached through the first jump host, when there is one."""
    jump = next(
        (host for host in hosts if "jump_host" in host.groups and host.variables["fleet_state"] == "present"), None
    )
    for host in hosts:
        if jump and host is not jump and not host.variables["fleet_public_address"]:
            host.jump = jump.name


def destinations(spec: fleet_spec.FleetSpec, state: State, hosts: list[Host]) -> list[ssh_config.Destination]:
    """The present hosts, for ssh_config."""
    observed: dict[str, dict[str, t.Any]] = state.get("machines", {})
    identity = str(spec.cloud.options.get("identity_file") or "")
    return [
        ssh_config.Destination(
            name=host.name,
            address=str(host.variables["ansible_host"]),
            user=str(host.variables["ansible_user"]),
            port=int(host.variables.get("ansible_port", 22)),
            identity_file=str(observed.get(host.name, {}).get("identity_file") or identity),
            alias=str(observed.get(host.name, {}).get("host_key_alias") or ""),
            jump=host.jump,
        )
        for host in hosts
        if host.variables["fleet_state"] == "present"
    ]


def known_hosts(spec: fleet_spec.FleetSpec) -> list[str]:
    """Files with host keys: those that provisioning pinned, those that the operator put beside the fleet file, and for
    machines that somebody else made the operator's own."""
    files = [str(ssh_config_path(spec).with_name("known_hosts")), str(Path(spec.folder) / "known_hosts")]
    return [*files, "~/.ssh/known_hosts"] if spec.cloud.provider == "existing" else files


def observe(spec: fleet_spec.FleetSpec) -> State:
    """What the cloud has of the site, as plain data.

    :raises CloudError: the cloud does not answer
    """
    machines = {
        name: {
            "present": machine.state == base.STOPPED or (machine.state == base.RUNNING and machine.ready),
            "private_address": machine.private_address,
            "public_address": machine.public_address,
            "user": machine.user,
            "port": machine.port,
            "identity_file": machine.identity_file,
            "host_key_alias": machine.host_key_alias,
        }
        for name, machine in plan.observed_hosts(spec, base.connect(spec).observe()).items()
    }
    return {"machines": machines}


def is_whole(spec: fleet_spec.FleetSpec, state: State) -> bool:
    """Whether every host of the fleet file was there."""
    machines = state.get("machines", {})
    return all(machines.get(host.name, {}).get("present") for host in spec.hosts())
