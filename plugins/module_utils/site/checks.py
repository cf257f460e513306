# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of a site before anything is installed on it. Pure: values in, findings out.

A finding is one line, ``thing: value: rule; way out``. Every check runs, whatever the others found, so that an operator
sees all that is wrong at once.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from . import secrets as site_secrets

SCHEDULERS = {"slurm": "slurm_controller", "mesos": "mesos_master"}
"""Scheduler: the role that installs it. A release may lack one."""
STORAGES = {"preprovided": "", "nfs": "nfs_server"}
"""Kind of shared storage: the role that installs it, if any."""
RELEASES = {("Debian", "12"), ("Debian", "13"), ("Ubuntu", "22.04"), ("Ubuntu", "24.04")}
RELEASES_TEXT = "Debian 12 or 13, Ubuntu 22.04 or 24.04"
CLUSTER_GROUPS = ("cluster_master", "cluster_nodes", "executor", "testing_host")
"""Hosts of these groups run the same Slurm: its daemons and clients talk to each other only within a release."""
ONE_HOST = ("docker_registry", "cluster_master", "executor", "editor", "nfs_server", "monitor")
"""Groups whose service runs once: the others find it as the first host of the group."""
STORAGE_GROUPS = ("executor", "cluster_nodes")
MEMORY_TOLERANCE = 0.9
"""A machine of 4 GiB shows some per cent less: kernel and firmware keep a part."""

_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


@dataclasses.dataclass
class Host:
    """One host as the checks see it. ``facts`` are its ansible_facts, empty when none were gathered."""

    name: str
    groups: frozenset[str] = frozenset()
    variables: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    facts: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    unreachable: str = ""
    storage: t.Mapping[str, t.Any] | None = None
    """``stat`` of the shared database directory; None when nobody looked."""

    @property
    def absent(self) -> bool:
        return self.variables.get("fleet_state") == "absent"


@dataclasses.dataclass
class Site:
    """Everything the checks may know."""

    values: t.Mapping[str, t.Any]
    """site_*, cluster_scheduler and vault_* of the group all"""
    hosts: t.Sequence[Host]
    secrets: t.Sequence[site_secrets.Row] = ()
    needs: t.Mapping[str, t.Mapping[str, str]] = dataclasses.field(default_factory=dict)
    """{group: {group it needs: why}}"""
    forbidden: t.Sequence[t.Mapping[str, t.Any]] = ()
    """[{groups: [a, b], why: ...}]: groups that must not share a host"""
    memory: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    """{group: MiB that its services need}; they add up on a host of several groups"""
    installable: t.Collection[str] = ()
    """groups that this release of the collection installs something for"""
    roles: t.Collection[str] = ()
    """roles that this release of the collection has; empty when nobody looked"""
    time_zones: t.Collection[str] = ()
    """known time zones; empty when the controller has no list"""

    def of(self, group: str) -> list[Host]:
        return [host for host in self.hosts if group in host.groups]


@dataclasses.dataclass
class Findings:
    """``errors`` stop a run, ``warnings`` are told."""

    errors: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def check(site: Site) -> Findings:
    """All checks that need no role."""
    found = Findings()
    for part in (_fleet, _values, _secrets, _groups, _combinations, _reachable, _releases, _memory, _storage):
        part(site, found)
    return found


def names(hosts: t.Iterable[str], most: int = 8) -> str:
    """'a, b and 990 more': a message stays readable at any size."""
    every = sorted(hosts, key=_natural)
    if len(every) <= most:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {len(every) - most} more"


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts worker-2 before worker-10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _fleet(site: Site, found: Findings) -> None:
    if not site.hosts:
        found.errors.append(
            "inventory: no host: a site has at least one machine; "
            "name its fleet file with -i, or make a site with omtd.workflow.new_site"
        )
        return
    absent = [host.name for host in site.hosts if host.absent]
    if absent:
        found.errors.append(
            f"fleet_state: absent: {len(absent)} of {len(site.hosts)} machines are not made yet ({names(absent)}); "
            "run provision first: ansible-playbook -i <fleet file> omtd.workflow.provision"
        )
    addresses: dict[str, list[str]] = {}
    for host in site.hosts:
        address = host.variables.get("fleet_private_address")
        if address:
            addresses.setdefault(str(address), []).append(host.name)
    found.errors.extend(
        f"fleet_private_address: {address}: {names(sharing)} have the same address; give each its own"
        for address, sharing in addresses.items()
        if len(sharing) > 1
    )


def _values(site: Site, found: Findings) -> None:
    values = site.values
    _choice(site, found, "cluster_scheduler", "scheduler", SCHEDULERS)
    _choice(site, found, "site_shared_storage", "shared_storage", STORAGES)
    for name in ("site_database_dir", "site_tools_dir"):
        path = str(values.get(name, "/"))
        if not path.startswith("/") or (name in values and path.strip("/") == ""):
            found.errors.append(
                f"{name}: {path!r}: is no folder that a service can own; write an absolute path below /srv"
            )
    domain = values.get("site_domain")
    if domain is not None and (not isinstance(domain, str) or not _DOMAIN.fullmatch(domain)):
        found.errors.append(
            f"site_domain: {domain!r}: is no domain name; write lower-case labels with dots, such as "
            "lab.internal, as values.domain"
        )
    zone = values.get("site_timezone")
    if zone and site.time_zones and zone not in site.time_zones:
        found.errors.append(
            f"site_timezone: {zone!r}: no such time zone; write one such as Etc/UTC or Europe/Athens as values.timezone"
        )
    uid = values.get("site_job_uid", 7100)
    if not str(uid).isdigit() or not 1000 <= int(uid) < 60000:
        found.errors.append(
            f"site_job_uid: {uid!r}: is no id for an account of people's jobs; write a number from 1000 to "
            "59999 that no host uses"
        )


def _choice(site: Site, found: Findings, name: str, key: str, roles: t.Mapping[str, str]) -> None:
    """One of a few words, each with a role behind it that this release may not have yet. The first is the default."""
    words = {word: role for word, role in roles.items() if not role or not site.roles or role in site.roles}
    value = site.values.get(name, next(iter(roles)))
    if value in words:
        return
    why = "this release does not install it" if value in roles else f"unknown {key.replace('_', ' ')}"
    found.errors.append(f"{name}: {value!r}: {why}; write {' or '.join(words)} as values.{key} of the fleet file")


def _secrets(site: Site, found: Findings) -> None:
    present = {group for host in site.hosts for group in host.groups} | ({"all"} if site.hosts else set())
    missing = []
    for row in site.secrets:
        if not present.intersection(row.get("groups") or ["all"]):
            continue
        name = row["name"]
        value = site.values.get(name)
        if value in (None, ""):
            missing.append(name)
            continue
        why = site_secrets.weakness(value)
        if why:
            found.errors.append(
                f"{name}: (not shown): {why}; take it out of group_vars/all/vault.yml (ansible-vault edit) "
                "and run omtd.workflow.secrets, which makes a strong one"
            )
    found.errors.extend(
        f"{name}: missing: {_purpose(site, name)}; run omtd.workflow.secrets, which adds what is missing"
        for name in missing
    )


def _purpose(site: Site, name: str) -> str:
    purpose = next((row.get("purpose", "") for row in site.secrets if row["name"] == name), "")
    return (purpose[:1].lower() + purpose[1:]).split(". ", maxsplit=1)[0].rstrip(".") or "the site needs it"


def _groups(site: Site, found: Findings) -> None:
    lacking: dict[str, list[str]] = {}
    for group, needed in site.needs.items():
        having = site.of(group)
        for other, why in needed.items() if having else ():
            if not site.of(other):
                lacking.setdefault(other, []).append(f"{group} ({names(host.name for host in having)}): {why}")
    found.errors.extend(
        f"{other}: no host: needed by {'; by '.join(reasons)}; put a machine into {other} in the fleet file"
        for other, reasons in lacking.items()
    )
    for group in ONE_HOST:
        having = site.of(group)
        if len(having) > 1:
            found.errors.append(
                f"{group}: {len(having)} hosts: runs once a site ({names(host.name for host in having)}); leave "
                "one machine in it"
            )
    classless = [host.name for host in site.of("cluster_nodes") if not host.groups & {"normal", "heavyweight"}]
    if classless:
        found.errors.append(
            f"cluster_nodes: {names(classless)}: a cluster node has a class; put it into normal or heavyweight "
            "instead of cluster_nodes"
        )
    if site.of("cluster_nodes") and not site.of("normal"):
        found.errors.append(
            "normal: no host: jobs go to normal nodes unless their component is heavyweight; put a machine into "
            "normal in the fleet file"
        )
    if site.values.get("site_shared_storage") == "nfs" and not site.of("nfs_server"):
        found.errors.append(
            "nfs_server: no host: site_shared_storage is nfs; put a machine into nfs_server, or write "
            "values.shared_storage: preprovided "
            "when the hosts mount the shared directories themselves"
        )
    if site.installable:
        populated = {group for host in site.hosts for group in host.groups} - {"all", "ungrouped"}
        for group in sorted(populated & KNOWN_GROUPS - set(site.installable)):
            found.warnings.append(
                f"{group}: {names(host.name for host in site.of(group))}: this release installs nothing for the "
                "group beyond the base"
            )


KNOWN_GROUPS = {
    "nfs_server", "docker_registry", "cluster_master", "cluster_nodes",
    "executor", "editor", "monitor", "workflow_service", "testing_host",
}  # fmt: skip


def _combinations(site: Site, found: Findings) -> None:
    for rule in site.forbidden:
        both = [host.name for host in site.hosts if host.groups.issuperset(rule["groups"])]
        if both:
            found.errors.append(
                f"{' + '.join(rule['groups'])}: {names(both)}: must not share a host: {rule['why']}; give one "
                "of them a machine of its own"
            )


def _reachable(site: Site, found: Findings) -> None:
    reasons: dict[str, list[str]] = {}
    for host in site.hosts:
        if host.unreachable:
            reason = host.unreachable.removeprefix("Task failed: ").replace(host.name, "<host>")
            reasons.setdefault(reason, []).append(host.name)
    found.errors.extend(
        f"{names(hosts)}: unreachable: {reason}; start the machine, or run provision again, then try: ansible "
        "-i <fleet file> <host> -m ping"
        for reason, hosts in reasons.items()
    )


def release_of(host: Host) -> tuple[str, str]:
    """('Debian', '12'), ('Ubuntu', '24.04'), or whatever else the host says it is."""
    distribution = str(host.facts.get("distribution", ""))
    version = str(host.facts.get("distribution_version", ""))
    if distribution == "Debian":
        version = str(host.facts.get("distribution_major_version") or version.split(".", maxsplit=1)[0])
    return distribution, version


def _releases(site: Site, found: Findings) -> None:
    known = [host for host in site.hosts if host.facts.get("distribution")]
    wrong: dict[tuple[str, str], list[str]] = {}
    for host in known:
        release = release_of(host)
        if release not in RELEASES:
            wrong.setdefault(release, []).append(host.name)
    for (distribution, version), hosts in wrong.items():
        found.errors.append(
            f"operating system: {distribution} {version}: {names(hosts)} cannot be installed; write an image of "
            f"{RELEASES_TEXT}"
        )
    managers: dict[str, list[str]] = {}
    for host in known:
        managers.setdefault(str(host.facts.get("service_mgr", "systemd")), []).append(host.name)
    managers.pop("systemd", None)
    found.errors.extend(
        f"service manager: {manager}: {names(hosts)} does not run systemd, which starts every service; "
        "use an image with systemd"
        for manager, hosts in managers.items()
    )
    if site.values.get("cluster_scheduler", "slurm") != "slurm":
        return
    cluster = [host for host in known if host.groups.intersection(CLUSTER_GROUPS)]
    releases: dict[str, list[str]] = {}
    for host in cluster:
        releases.setdefault(" ".join(release_of(host)), []).append(host.name)
    if len(releases) > 1:
        spread = "; ".join(f"{release}: {names(hosts)}" for release, hosts in sorted(releases.items()))
        found.errors.append(
            f"releases of the cluster: {' and '.join(sorted(releases))}: Slurm of different releases does not "
            "talk to each other "
            f"({spread}); use one image for {', '.join(CLUSTER_GROUPS)}"
        )


def _memory(site: Site, found: Findings) -> None:
    short: dict[tuple[str, int, int], list[str]] = {}
    for host in site.hosts:
        wanted = [group for group in site.memory if group == "all" or group in host.groups]
        need = sum(site.memory[group] for group in wanted)
        # In a container /proc/meminfo is the computer's, so the smaller of promised and seen memory counts.
        sizes = [
            int(host.variables.get("fleet_ram_mib") or 0),
            int(int(host.facts.get("memtotal_mb") or 0) / MEMORY_TOLERANCE),
        ]
        has = min((size for size in sizes if size > 0), default=0)
        if has and has < need:
            groups = " + ".join(group for group in wanted if group != "all") or "base"
            short.setdefault((groups, has, need), []).append(host.name)
    found.errors.extend(
        f"memory: {has} MiB: {names(hosts)} ({groups}) needs {need} MiB or more; write a larger ram (or flavor) "
        "for the machine"
        for (groups, has, need), hosts in short.items()
    )


def _storage(site: Site, found: Findings) -> None:
    if site.values.get("site_shared_storage", "preprovided") != "preprovided":
        return
    looked = [host for host in site.hosts if host.storage is not None and host.groups.intersection(STORAGE_GROUPS)]
    path = site.values.get("site_database_dir", "/srv/omtd/database")
    without = [host.name for host in looked if not (host.storage or {}).get("isdir")]
    if without:
        found.errors.append(
            f"site_database_dir: {path}: {names(without)} does not have it, and site_shared_storage is preprovided; "
            "mount the shared directory there, or list it under shared_dirs of the machine"
        )
    inodes = {(host.storage or {}).get("inode") for host in looked if (host.storage or {}).get("isdir")}
    if len(inodes) > 1:
        found.warnings.append(
            f"site_database_dir: {path}: does not look like the same directory on "
            f"{names(host.name for host in looked)} "
            "(inode numbers differ); jobs lose their data unless it is shared"
        )
