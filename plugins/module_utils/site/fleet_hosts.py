# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a site as Ansible sees them: what the fleet file wants, joined with what the cloud has."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from . import ssh_config

GROUPS = (
    "jump_host",
    "nfs_server",
    "docker_registry",
    "cluster_master",
    "cluster_nodes",
    "normal",
    "heavyweight",
    "executor",
    "editor",
    "monitor",
    "workflow_service",
    "testing_host",
)
"""Every group that a role knows. All of them exist in every site: an empty group switches its service off."""

CHILDREN = {"cluster_nodes": ("normal", "heavyweight")}

INVENTORY_KEYS = frozenset(
    (
        "plugin",
        "compose",
        "groups",
        "keyed_groups",
        "strict",
        "use_extra_vars",
        "leading_separator",
        "cache",
        "cache_plugin",
        "cache_timeout",
        "cache_connection",
        "cache_prefix",
    )
)
"""Keys of a fleet file that are Ansible's, not the fleet's."""

State = dict[str, t.Any]
"""{"machines": {host name: {"private_address": "", "public_address": "", ...}}}: plain data, for the cache."""


class FleetFileError(Exception):
    """The fleet file is wrong; the message has every fault."""


class CloudError(Exception):
    """The cloud does not answer, or not with sense."""


@dataclasses.dataclass(frozen=True)
class Desired:
    """A host that the fleet file asks for."""

    name: str
    machine: str
    index: int
    groups: tuple[str, ...]
    vcpus: int
    ram_mib: int
    disk_gib: int
    volumes: dict[str, t.Any]
    user: str = ""


@dataclasses.dataclass
class Site:
    """A fleet file, read."""

    name: str
    provider: str
    folder: Path
    values: dict[str, t.Any]
    hosts: list[Desired]
    fleet: t.Any
    """the specification itself, for the cloud"""


@dataclasses.dataclass
class Host:
    """A host as Ansible gets it. ``variables`` are ours; ``remote`` came from a cloud and is not to be trusted."""

    name: str
    groups: tuple[str, ...]
    variables: dict[str, t.Any]
    remote: dict[str, t.Any]
    jump: str = ""


def merge(site: Site, state: State) -> list[Host]:
    """The hosts of the site, wanted joined with observed."""
    observed: dict[str, dict[str, t.Any]] = state.get("machines", {})
    common_args = f"-F {ssh_config.quote(str(site.folder / '.fleet' / 'ssh_config'))}"
    hosts = []
    for wanted in site.hosts:
        seen = observed.get(wanted.name)
        private = str((seen or {}).get("private_address") or "")
        public = str((seen or {}).get("public_address") or "")
        present = seen is not None and bool(private or public)
        remote = {
            # A name that no resolver knows (RFC 2606): nobody logs in to a stranger that has the name of a host to be.
            "ansible_host": public or private or f"{wanted.name}.absent.invalid",
            "ansible_user": str((seen or {}).get("user") or wanted.user or "debian"),
            "fleet_private_address": private,
            "fleet_public_address": public,
        }
        if (seen or {}).get("port"):
            remote["ansible_port"] = int(seen["port"])  # type: ignore[index]
        variables = {
            "ansible_ssh_common_args": common_args,
            "fleet_site": site.name,
            "fleet_machine": wanted.machine,
            "fleet_index": wanted.index,
            "fleet_state": "present" if present else "absent",
            "fleet_vcpus": wanted.vcpus,
            "fleet_ram_mib": wanted.ram_mib,
            "fleet_disk_gib": wanted.disk_gib,
            "fleet_volumes": wanted.volumes,
            "fleet_groups": list(wanted.groups),
        }
        hosts.append(Host(wanted.name, wanted.groups, variables, remote))
    _through_jump_host(hosts)
    return hosts


def _through_jump_host(hosts: list[Host]) -> None:
    """Hosts without a public address are reached through the first jump host, when there is one."""
    jump = next(
        (host for host in hosts if "jump_host" in host.groups and host.variables["fleet_state"] == "present"), None
    )
    for host in hosts:
        if jump and host is not jump and not host.remote["fleet_public_address"]:
            host.jump = jump.name


def destinations(site: Site, state: State, hosts: list[Host]) -> list[ssh_config.Destination]:
    """The present hosts, for ssh_config."""
    observed: dict[str, dict[str, t.Any]] = state.get("machines", {})
    return [
        ssh_config.Destination(
            name=host.name,
            address=str(host.remote["ansible_host"]),
            user=str(host.remote["ansible_user"]),
            port=int(host.remote.get("ansible_port", 22)),
            identity_file=str(observed.get(host.name, {}).get("identity_file") or ""),
            alias=str(observed.get(host.name, {}).get("host_key_alias") or ""),
            jump=host.jump,
        )
        for host in hosts
        if host.variables["fleet_state"] == "present"
    ]


def known_hosts(site: Site) -> list[str]:
    """Files with host keys: the site's own, then the operator's for machines that somebody else made."""
    files = [str(site.folder / "known_hosts")]
    return [*files, "~/.ssh/known_hosts"] if site.provider == "existing" else files


# --- temporary until module_utils/fleet/spec.py is there
def read(path: str) -> Site:
    import yaml

    raw = yaml.safe_load(Path(path).read_text())
    folder = Path(path).resolve().parent
    values = raw.get("values", {})
    dirs = raw.get("shared_dirs", {})
    hosts = []
    for machine, entry in raw["machines"].items():
        m = {**raw.get("defaults", {}), **entry}
        count = len(m["addresses"]) if "addresses" in m else m.get("count", 1)
        for i in range(1, count + 1):
            hosts.append(
                Desired(
                    f"{raw['site']}-{machine}-{i}",
                    machine,
                    i,
                    tuple(m["groups"]),
                    m.get("vcpus", 0),
                    0,
                    0,
                    m.get("volumes", {}),
                )
            )
    return Site(
        raw["site"],
        raw["cloud"]["provider"],
        folder,
        {
            "site_name": raw["site"],
            "site_domain": values.get("domain", raw["site"] + ".internal"),
            "site_timezone": values.get("timezone", "Etc/UTC"),
            "site_shared_storage": values.get("shared_storage", "preprovided"),
            "site_database_dir": dirs.get("database", {}).get("path", "/srv/omtd/database"),
            "site_tools_dir": dirs.get("tools", {}).get("path", "/srv/omtd/tools"),
            "site_job_user": values.get("job_user", "galaxy"),
            "site_job_uid": values.get("job_uid", 7100),
            "site_folder": str(folder),
            "cluster_scheduler": values.get("scheduler", "slurm"),
        },
        hosts,
        raw,
    )


def observe(site: Site) -> State:
    if site.provider != "existing":
        raise CloudError("no adapter")
    out = {}
    for machine, m in site.fleet["machines"].items():
        for i, a in enumerate(m.get("addresses", []), 1):
            a = a if isinstance(a, dict) else {"private": a}
            out[f"{site.name}-{machine}-{i}"] = {
                "private_address": a.get("private"),
                "public_address": a.get("public", ""),
                "user": a.get("user") or site.fleet["cloud"].get("user"),
                "port": a.get("port"),
            }
    return {"machines": out}
