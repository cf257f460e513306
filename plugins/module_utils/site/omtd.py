# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an OMTD `hosts` file with its group_vars to a site. Pure: old values in, the new site out.

The names of groups and variables on the old side are those of omtd-stack-setup, whose last commits are of 2018.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from . import secrets as site_secrets

MACHINES = (
    # (old group, machine, new groups): the first row that has a host names its machine.
    ("executor", "executor", ["executor"]),
    ("editor", "editor", ["editor"]),
    ("docker_registry", "registry", ["docker_registry"]),
    ("cluster_master", "master", ["cluster_master"]),
    ("monitor", "monitor", ["monitor"]),
    ("nfs_server", "storage", ["nfs_server"]),
    ("cluster_nodes", "worker", ["normal"]),
)

SECRETS = {
    # old variable: new one
    "registry_password": "vault_registry_pull_password",
    "chronos_http_password": "vault_chronos_http_password",
    "chronos_secret": "vault_chronos_secret",
    "remote_user_secret": "vault_editor_remote_user_secret",
}

NAMES_OF_SECRETS = {
    # Not secret in themselves, but useless and misleading without the secret they belong to.
    "chronos_http_user": ("vault_chronos_http_user", "chronos_http_password"),
    "chronos_principal": ("vault_chronos_principal", "chronos_secret"),
}

LEFT = {
    # old variable: why nothing carries it
    "registry_username": "the registry has two users, push and pull",
    "force": "playbooks are safe to run again; nothing has to be forced",
    "galaxy_version": "a release of the collection installs one Galaxy, locked with hashes",
    "chronos_workers": "the number of workers follows from the machine's cores; see roles/executor/README.md",
    "local_workers": "no tool runs in Galaxy's own process; see roles/executor/README.md",
    "quorum_size": "worked out from the number of masters: n // 2 + 1",
    "nfs_exports": "export options come from the table of shared directories, without no_root_squash",
    "ansible_ssh_private_key_file": "write the path as cloud.identity_file of the fleet file",
    "chronos_http_port": "Chronos is reached through the reverse proxy",
    "chronos_https_port": "Chronos is reached through the reverse proxy",
}
LEFT_PATTERNS = (
    (re.compile(r"gear_?[12].*"), "job sizes are rules of total-perspective-vortex now; see roles/executor/README.md"),
)
CONNECTION = {
    "ansible_user",
    "ansible_ssh_user",
    "ansible_host",
    "ansible_ssh_host",
    "ansible_port",
    "ansible_ssh_port",
}
CONSUMED = {
    "cluster_name",
    "executor_directory",
    "data_share",
    "tools_share",
    "galaxy_admin",
    "cluster_threashold",
    "cluster_nodes",
}


@dataclasses.dataclass(frozen=True)
class OldHost:
    """A line of the old hosts file."""

    name: str
    groups: tuple[str, ...]
    variables: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def address(self) -> str:
        return str(self.variables.get("ansible_host") or self.variables.get("ansible_ssh_host") or self.name)

    @property
    def user(self) -> str:
        return str(self.variables.get("ansible_user") or self.variables.get("ansible_ssh_user") or "root")

    @property
    def port(self) -> int:
        return int(self.variables.get("ansible_port") or self.variables.get("ansible_ssh_port") or 22)


@dataclasses.dataclass
class Migration:
    """The new site. ``secrets`` goes nowhere but into the vault."""

    site: str
    user: str
    machines: dict[str, dict[str, t.Any]]
    directories: dict[str, str]
    settings: dict[str, t.Any]
    secrets: dict[str, t.Any]
    carried: list[str]
    left: list[str]


def migrate(hosts: t.Sequence[OldHost], variables: t.Mapping[str, t.Mapping[str, t.Any]], site: str = "") -> Migration:
    """The site that a `hosts` file and its group_vars describe.

    :param hosts: the hosts of the file, with the groups they are direct members of
    :param variables: {group: its variables, templated}
    :param site: name of the new site; by default made from ``cluster_name``
    :raises ValueError: there is nothing to migrate
    """
    known = [host for host in hosts if set(host.groups) & {row[0] for row in MACHINES}]
    if not known:
        groups = ", ".join(row[0] for row in MACHINES)
        raise ValueError(
            f"hosts: none of the OMTD groups has a host: expected some of {groups}; give the OMTD `hosts` file"
        )
    old = {
        name: value
        for group in ("all", *(row[0] for row in MACHINES))
        for name, value in variables.get(group, {}).items()
    }
    users = [host.user for host in known]
    migration = Migration(
        site=site or site_name(str(old.get("cluster_name", "omtd"))),
        user=max(sorted(set(users)), key=users.count),
        machines={},
        directories={},
        settings={},
        secrets={},
        carried=[],
        left=[],
    )
    _machines(migration, known)
    _directories(migration, old)
    _settings(migration, old)
    _secrets(migration, old)
    _agents(migration, variables.get("all", {}).get("cluster_nodes"))
    _rest(migration, variables, hosts)
    return migration


def site_name(text: str) -> str:
    """A name that a site may have, made of whatever the old cluster was called."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:32].strip("-")
    return name if re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name) else "omtd"


def _machines(migration: Migration, hosts: t.Sequence[OldHost]) -> None:
    """One machine entry for all hosts of the same role; a host of several groups is one machine with all of them."""
    together: dict[str, tuple[set[str], OldHost]] = {}
    for host in hosts:
        groups, _first = together.setdefault(host.address, (set(), host))
        groups.update(host.groups)
    for groups, host in together.values():
        rows = [row for row in MACHINES if row[0] in groups]
        wanted = [group for row in rows for group in row[2]]
        name = rows[0][1]
        if name in migration.machines and migration.machines[name]["groups"] != wanted:
            name = "-".join(row[1] for row in rows)
        machine = migration.machines.setdefault(name, {"groups": wanted, "addresses": []})
        entry: dict[str, t.Any] = {"private": host.address}
        if host.user != migration.user:
            entry["user"] = host.user
        if host.port != 22:
            entry["port"] = host.port
        machine["addresses"].append(host.address if len(entry) == 1 else entry)
        shares = [
            share
            for share, users in (("database", {"executor", "normal"}), ("tools", {"executor"}))
            if users & set(wanted)
        ]
        if shares:
            machine["shared_dirs"] = shares
        migration.carried.append(f"host {host.name} ({', '.join(row[0] for row in rows)}) → machine {name}")
    if any("normal" in machine["groups"] for machine in migration.machines.values()):
        migration.left.append(
            "class of the cluster nodes: the hosts file does not say which are heavyweight, so all became normal; "
            "give those with a large disk a machine entry with groups: [heavyweight]"
        )
    if any("nfs_server" in machine["groups"] for machine in migration.machines.values()):
        migration.left.append(
            "nfs_server: the shared directories are taken as mounted already (values.shared_storage: preprovided); "
            "keep the old exports and mounts, or see docs/fleet-file.md for shared_storage: nfs"
        )
    migration.left.append(
        "scheduler: the old site ran Mesos and Chronos, the new one runs Slurm (values.scheduler: slurm); "
        "the old services are not removed: use fresh machines, or stop them first"
    )


def _directories(migration: Migration, old: t.Mapping[str, t.Any]) -> None:
    for name, variable, part in (("database", "data_share", "database"), ("tools", "tools_share", "tools")):
        path = old.get(variable)
        if not path and old.get("executor_directory"):
            path = f"{str(old['executor_directory']).rstrip('/')}/{part}"
        if path and str(path).startswith("/") and "{{" not in str(path):
            migration.directories[name] = str(path)
            migration.carried.append(f"{variable} → shared_dirs.{name}.path: {path}")
        else:
            migration.directories[name] = f"/srv/omtd/{part}"
            if path:
                migration.left.append(
                    f"{variable}: {path!r} is no absolute path; shared_dirs.{name} has {migration.directories[name]}"
                )


def _settings(migration: Migration, old: t.Mapping[str, t.Any]) -> None:
    admin = old.get("galaxy_admin")
    if admin:
        first = str(admin).split(",", maxsplit=1)[0].strip()
        if "@" in first:
            migration.settings["executor_admin_email"] = first
            migration.carried.append(f"galaxy_admin → executor_admin_email: {first}")
        else:
            migration.left.append(f"galaxy_admin: {admin!r} is no e-mail address; set executor_admin_email")
        if "," in str(admin):
            migration.left.append(
                "galaxy_admin: automation makes one administrator; add the others in Galaxy's own pages"
            )
    threshold = old.get("cluster_threashold")
    if threshold is not None:
        migration.left.append(
            f"cluster_threashold: {threshold} (MB): which components count as heavyweight is decided by their "
            "class; see docs/fleet-file.md"
        )
    if old.get("cluster_name"):
        migration.carried.append(f"cluster_name → site: {migration.site}")


def _secrets(migration: Migration, old: t.Mapping[str, t.Any]) -> None:
    strong = set()
    for variable, new in SECRETS.items():
        value = old.get(variable)
        if value in (None, ""):
            continue
        weakness = site_secrets.weakness(value)
        if weakness:
            migration.left.append(f"{variable}: (not shown) {weakness}; a new one is made where the site needs it")
            continue
        strong.add(variable)
        migration.secrets[new] = value
        migration.carried.append(f"{variable} → {new} in the vault")
    for variable, (new, partner) in NAMES_OF_SECRETS.items():
        if old.get(variable) and partner in strong:
            migration.secrets[new] = old[variable]
            migration.carried.append(f"{variable} → {new} in the vault")
        elif old.get(variable):
            migration.left.append(f"{variable}: of no use without {partner}, which is missing or weak")
    if old.get("remote_user_maildomain"):
        migration.settings["editor_remote_user_maildomain"] = str(old["remote_user_maildomain"])
        migration.carried.append(
            f"remote_user_maildomain → editor_remote_user_maildomain: {old['remote_user_maildomain']}"
        )


def _agents(migration: Migration, nodes: object) -> None:
    """``cluster_nodes: {ip: {principal, secret}}``: what each Mesos agent logged in with."""
    if not isinstance(nodes, dict):
        return
    kept = {}
    for address, given in nodes.items():
        credential = given if isinstance(given, dict) else {}
        weakness = site_secrets.weakness(credential.get("secret"))
        if weakness or not credential.get("principal"):
            migration.left.append(
                f"cluster_nodes.{address}: (not shown) {weakness or 'has no principal'}; make a new one before "
                "you use Mesos"
            )
        else:
            kept[str(address)] = {"principal": str(credential["principal"]), "secret": credential["secret"]}
    if kept:
        migration.secrets["vault_mesos_agent_credentials"] = kept
        migration.carried.append(
            f"cluster_nodes: credentials of {len(kept)} Mesos agents → vault_mesos_agent_credentials in the vault"
        )


def _rest(migration: Migration, variables: t.Mapping[str, t.Mapping[str, t.Any]], hosts: t.Sequence[OldHost]) -> None:
    """Names everything else: what is known and left out, and what this code has never heard of. Values are not
    shown."""
    handled = {*SECRETS, *NAMES_OF_SECRETS, *CONSUMED, *CONNECTION, "remote_user_maildomain"}
    known_groups = {row[0] for row in MACHINES} | {"all", "ungrouped"}
    for group, values in variables.items():
        for name in values:
            if name in handled:
                continue
            why = LEFT.get(name) or next((text for pattern, text in LEFT_PATTERNS if pattern.fullmatch(name)), "")
            migration.left.append(
                f"{name} (group {group}): "
                f"{why or 'not a variable of the OMTD playbooks; look whether you still need it'}"
            )
    for host in hosts:
        for name in host.variables:
            if name not in handled:
                migration.left.append(
                    f"{name} (host {host.name}): not a variable of the OMTD playbooks; look whether you still need it"
                )
        unknown = set(host.groups) - known_groups
        if unknown and not set(host.groups) & known_groups - {"all", "ungrouped"}:
            migration.left.append(
                f"host {host.name}: only in {', '.join(sorted(unknown))}, which the OMTD playbooks do not know"
            )
    migration.left[:] = list(dict.fromkeys(migration.left))
