# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet file: parsed and checked, as values that plan and inventory take. No I/O except in :func:`load`.

A fleet file with mistakes gives one :class:`FleetFileError` that holds all of them, each with the path of its key:
``machines.worker.disk: 20 GiBB: no size; write a number and a unit, for instance 20 GiB``.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import typing as t
import zlib
from pathlib import Path

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..clouds import podman_image

try:
    import yaml
except ImportError:  # ansible-test imports everything without third-party libraries
    HAS_YAML = False
else:
    HAS_YAML = True

Mapping = t.Mapping[str, t.Any]

# ---------------------------------------------------------------------------------------------------- words

GROUPS: tuple[str, ...] = (
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
"""Every group that a role knows. The inventory defines them all, even empty."""

GROUP_CHILDREN: dict[str, tuple[str, ...]] = {"cluster_nodes": ("normal", "heavyweight")}
"""Groups that are made of other groups. A machine goes into a child: a cluster node is normal or heavyweight."""

ASSIGNABLE_GROUPS = tuple(group for group in GROUPS if group not in GROUP_CHILDREN)

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
"""Keys of the inventory plugin, which reads the same file. They are its own, and not looked at here."""

SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""Unit to bytes. Ansible's own ``human_to_bytes`` rejects GiB and takes GB for GiB, so this table is ours."""

RESERVED_NAMES = frozenset(("localhost", "all", "ungrouped", "omtd"))
"""Names that Ansible or we use for something else."""

NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?\Z")
DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z")
METADATA_KEY = re.compile(r"[A-Za-z0-9_.-]{1,200}\Z")
USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
SIZE = re.compile(r"\s*(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-z]*)\s*\Z")

MAX_SITE_NAME = 32
MAX_HOST_NAME = 63
"""A DNS label has at most 63 characters (RFC 1035)."""

FIRST_HOST_OFFSET = 10
"""The first addresses of a subnet stay free for gateways and for people's own use."""

KNOWN_VOLUME_PATHS = {"docker": "/var/lib/docker"}
"""Where a volume of this name is used, unless its ``path`` says otherwise."""

VOLUME_PATH_ROOT = "/srv/omtd/volumes"


# --------------------------------------------------------------------------------------------------- values


class FleetFileError(ValueError):
    """Everything that is wrong in a fleet file.

    :ivar problems: one sentence a mistake, ``path of the key: value: rule; way out``
    """

    def __init__(self, problems: t.Iterable[str], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = len(self.problems)
        head = f"{source}: " if source else ""
        intro = f"{head}{count} mistake{'s' if count != 1 else ''}. Nothing was changed."
        super().__init__("\n".join([intro, *(f"  - {problem}" for problem in self.problems)]))


class SizeError(ValueError):
    """A text that is no size."""


@dataclasses.dataclass(frozen=True)
class VolumeSpec:
    """A volume of a machine. ``size_gib`` is in GiB; ``path`` is where the machine has it."""

    name: str
    size_gib: int
    keep: bool = True
    path: str = ""
    implied: bool = False
    """not in the fleet file: the provider needs it"""


@dataclasses.dataclass(frozen=True)
class SharedDirSpec:
    """One directory that several machines see. ``source`` is a directory of the cloud's host; '' has the cloud
    make one."""

    name: str
    path: str
    source: str = ""
    keep: bool = True


@dataclasses.dataclass(frozen=True)
class AddressSpec:
    """Where a machine that somebody else made is reached (provider existing)."""

    private: str
    public: str = ""
    user: str = ""
    port: int = 22


@dataclasses.dataclass(frozen=True)
class MachineSpec:
    """One entry of ``machines``: ``count`` hosts that are alike. Memory in MiB, disk in GiB; 0 when a flavor or
    somebody else decides it."""

    name: str
    count: int = 1
    groups: tuple[str, ...] = ()
    image: str = ""
    flavor: str = ""
    vcpus: int = 0
    ram_mib: int = 0
    disk_gib: int = 0
    volumes: tuple[VolumeSpec, ...] = ()
    public_ip: bool = False
    networks: tuple[str, ...] = ()
    shared_dirs: tuple[str, ...] = ()
    user_data: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    addresses: tuple[AddressSpec, ...] = ()


@dataclasses.dataclass(frozen=True)
class HostSpec:
    """One host of a site: ``<site>-<machine>-<index>``, index from 1."""

    name: str
    machine: MachineSpec
    index: int
    address: AddressSpec | None = None
    """for provider existing"""


@dataclasses.dataclass(frozen=True)
class CloudSpec:
    """The cloud of a site. ``options`` has the keys beside ``provider``, checked, with defaults."""

    provider: str
    options: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def subnet(self) -> ipaddress.IPv4Network | None:
        """The network of the site, where the provider lets us choose addresses."""
        text = self.options.get("subnet")
        return ipaddress.IPv4Network(text) if text else None


@dataclasses.dataclass(frozen=True)
class FleetSpec:
    """A whole fleet file. ``folder`` is the absolute path of the site folder, '' when the file has none."""

    site: str
    cloud: CloudSpec
    values: dict[str, t.Any]
    shared_dirs: tuple[SharedDirSpec, ...]
    machines: tuple[MachineSpec, ...]
    adopt: dict[str, str] = dataclasses.field(default_factory=dict)
    folder: str = ""

    def hosts(self) -> list[HostSpec]:
        """All hosts, in the order of the file."""
        return [
            HostSpec(
                name=host_name(self.site, machine.name, index),
                machine=machine,
                index=index,
                address=machine.addresses[index - 1] if machine.addresses else None,
            )
            for machine in self.machines
            for index in range(1, machine.count + 1)
        ]

    def shared_dir(self, name: str) -> SharedDirSpec:
        """The shared directory of that name. Raises KeyError when there is none."""
        for shared in self.shared_dirs:
            if shared.name == name:
                return shared
        raise KeyError(name)


def host_name(site: str, machine: str, index: int) -> str:
    """The name of one host."""
    return f"{site}-{machine}-{index}"


# ------------------------------------------------------------------------------------------- what keys there are

COMMON_CLOUD_OPTIONS: dict[str, dict[str, t.Any]] = {
    "identity_file": {"type": "str", "default": ""},
    "parallel": {"type": "int", "default": 8},
}
PROVIDERS: dict[str, dict[str, dict[str, t.Any]]] = {
    "podman": {
        **COMMON_CLOUD_OPTIONS,
        "subnet": {"type": "str", "required": True},
        "networks": {"type": "dict", "default": {}},
        "cache_dir": {"type": "str", "default": "~/.cache/omtd-workflow"},
    },
    "existing": {
        **COMMON_CLOUD_OPTIONS,
        "user": {"type": "str", "default": "debian"},
        "subnet": {"type": "str", "default": ""},
    },
}
"""The clouds that this release knows, and the keys that each takes beside ``provider``."""

TOP_KEYS: dict[str, dict[str, t.Any]] = {
    "site": {"type": "str", "required": True},
    "cloud": {"type": "dict", "required": True},
    "values": {"type": "dict", "default": {}},
    "shared_dirs": {"type": "dict", "default": {}},
    "defaults": {"type": "dict", "default": {}},
    "machines": {"type": "dict", "required": True},
    "adopt": {"type": "dict", "default": {}},
}
VALUE_KEYS: dict[str, dict[str, t.Any]] = {
    "domain": {"type": "str"},
    "timezone": {"type": "str", "default": "Etc/UTC"},
    "shared_storage": {"type": "str", "default": "preprovided", "choices": ["preprovided", "nfs"]},
    "scheduler": {"type": "str", "default": "slurm", "choices": ["slurm", "mesos"]},
    "job_user": {"type": "str", "default": "galaxy"},
    "job_uid": {"type": "int", "default": 7100},
}
SHARED_DIR_KEYS: dict[str, dict[str, t.Any]] = {
    "path": {"type": "str", "required": True},
    "source": {"type": "str", "default": ""},
    "keep": {"type": "bool", "default": True},
}
MACHINE_KEYS: dict[str, dict[str, t.Any]] = {
    "count": {"type": "int"},
    "groups": {"type": "list", "elements": "str"},
    "image": {"type": "str"},
    "flavor": {"type": "str"},
    "vcpus": {"type": "int"},
    "ram": {"type": "raw"},
    "disk": {"type": "raw"},
    "volumes": {"type": "dict"},
    "public_ip": {"type": "bool"},
    "networks": {"type": "list", "elements": "str"},
    "shared_dirs": {"type": "list", "elements": "str"},
    "user_data": {"type": "str"},
    "metadata": {"type": "dict"},
    "address": {"type": "raw"},
    "addresses": {"type": "list", "elements": "raw"},
    "user": {"type": "str"},
}
VOLUME_KEYS: dict[str, dict[str, t.Any]] = {
    "size": {"type": "raw", "required": True},
    "keep": {"type": "bool", "default": True},
    "path": {"type": "str", "default": ""},
}
ADDRESS_KEYS: dict[str, dict[str, t.Any]] = {
    "private": {"type": "str", "required": True},
    "public": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 22},
}
TYPE_WORDS = {
    "int": ("a whole number", "2"),
    "bool": ("yes or no", "true or false"),
    "list": ("a list", "[a, b]"),
    "dict": ("a mapping", "{key: value}"),
    "str": ("a text", "one text, without {} or []"),
}


# -------------------------------------------------------------------------------------------------- the parser


def parse_size(value: object) -> int:
    """Bytes of a size with its unit: ``20 GiB``, ``1.5TB``, ``512 MiB``. GiB is 2**30, GB is 10**9.

    Raises SizeError with ``rule; way out`` when it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise SizeError("no size; write a number and a unit, for instance 20 GiB")
    match = SIZE.match(str(value))
    if match is None:
        raise SizeError("no size; write a number and a unit, for instance 20 GiB")
    unit = match["unit"]
    if not unit:
        raise SizeError(f"a size without unit; write for instance {match['number']} GiB")
    if unit not in SIZE_UNITS:
        lower = {name.lower(): name for name in SIZE_UNITS}
        near = difflib.get_close_matches(unit.lower(), lower, n=1)
        hint = (
            f"write {match['number']} {lower[near[0]]}" if near else "write one of KiB, MiB, GiB, TiB, kB, MB, GB, TB"
        )
        raise SizeError(f"unknown unit {unit}; {hint}")
    whole, _dot, fraction = match["number"].partition(".")
    scaled = int(whole + fraction) * SIZE_UNITS[unit]
    return -(-scaled // 10 ** len(fraction))


class _Parser:
    """Goes through a fleet file once, and collects what is wrong instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def wrong(self, path: str, rule: str, *value: object) -> None:
        """Notes one mistake. ``rule`` ends with the way out."""
        shown = "".join(f"{_shown(each)}: " for each in value)
        self.problems.append(f"{path}: {shown}{rule}")

    def mapping(self, path: str, value: object, keys: dict[str, dict[str, t.Any]]) -> dict[str, t.Any]:
        """The keys of one mapping, each checked and converted by Ansible's own validator. A key with a mistake is
        noted, and is given its default or left out."""
        if not isinstance(value, dict):
            self.wrong(path, "no mapping; write {" + ", ".join(f"{key}: …" for key in list(keys)[:3]) + "}", value)
            return {key: option["default"] for key, option in keys.items() if "default" in option}
        result: dict[str, t.Any] = {}
        for key, content in value.items():
            where = _join(path, key)
            if key not in keys:
                self.wrong(where, _unknown("key", str(key), keys))
            elif content is None:
                self.wrong(where, "empty; write a value or leave the key out")
            elif _is_of(content, keys[key]["type"]):
                self.checked(where, str(key), content, keys[key], result)
            else:
                self.wrong_type(where, content, keys[key]["type"])
        for key, option in keys.items():
            if key in result:
                continue
            if "default" in option:
                result[key] = option["default"]
            elif option.get("required") and key not in value:
                self.wrong(_join(path, key), "missing; this key is needed")
        return result

    def checked(
        self, where: str, key: str, content: object, option: dict[str, t.Any], result: dict[str, t.Any]
    ) -> None:
        """Puts one value into ``result`` as its type, or notes why not."""
        choices = option.get("choices")
        verdict = ArgumentSpecValidator({key: {"type": option["type"], "elements": option.get("elements")}}).validate(
            {key: content}
        )
        if verdict.error_messages:
            self.wrong_type(where, content, option["type"])
        elif choices and verdict.validated_parameters[key] not in choices:
            self.wrong(where, f"unknown; write one of {', '.join(choices)}", content)
        else:
            result[key] = verdict.validated_parameters[key]

    def wrong_type(self, where: str, content: object, wanted: str) -> None:
        word, example = TYPE_WORDS[wanted]
        self.wrong(where, f"not {word}; write {example}", content)

    def size(self, path: str, value: object, unit: str, least: int = 1) -> int:
        """A size in whole ``unit`` (MiB or GiB), rounded up; 0 when it is wrong."""
        try:
            size = -(-parse_size(value) // SIZE_UNITS[unit])
        except SizeError as exc:
            self.wrong(path, str(exc), value)
            return 0
        if size < least:
            self.wrong(path, f"too small; write {least} {unit} or more", value)
            return 0
        return size

    def name(self, path: str, value: str, longest: int = MAX_HOST_NAME) -> bool:
        """Whether a text can be part of a host name; notes it when not."""
        if value in RESERVED_NAMES:
            self.wrong(
                path, "reserved; Ansible or this collection uses the name for something else, write another", value
            )
        elif "--" in value:
            self.wrong(path, "two hyphens in a row separate the parts of names in clouds; write one", value)
        elif not NAME.match(value) or len(value) > longest:
            self.wrong(
                path,
                f"no name; write 1 to {longest} small letters, digits and hyphens that begin with a letter "
                "and end with a letter or digit",
                value,
            )
        else:
            return True
        return False

    def ip_address(self, path: str, value: str) -> bool:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            self.wrong(path, "no IP address; write for instance 192.0.2.11", value)
            return False
        return True

    def network(self, path: str, value: str) -> ipaddress.IPv4Network | None:
        try:
            network = ipaddress.IPv4Network(value)
        except ValueError as exc:
            self.wrong(path, f"no IPv4 network ({exc}); write for instance 172.31.77.0/24", value)
            return None
        if network.prefixlen > 28:
            self.wrong(path, "too small a network; write /28 or larger, for instance 172.31.77.0/24", value)
            return None
        return network

    # ------------------------------------------------------------------ the parts of the file

    def cloud(self, content: object) -> CloudSpec:
        if not isinstance(content, dict):
            self.wrong("cloud", "no mapping; write for instance {provider: podman, subnet: 172.31.77.0/24}", content)
            return CloudSpec("")
        provider = content.get("provider")
        if not isinstance(provider, str) or provider not in PROVIDERS:
            self.wrong("cloud.provider", f"unknown cloud; write one of {', '.join(PROVIDERS)}", *_some(provider))
            return CloudSpec("")
        rest = {key: value for key, value in content.items() if key != "provider"}
        options = self.mapping("cloud", rest, PROVIDERS[provider])
        if options.get("subnet"):
            network = self.network("cloud.subnet", options["subnet"])
            options["subnet"] = str(network) if network else ""
        known = {options.get("subnet"): "cloud.subnet"}
        for name, text in (options.get("networks") or {}).items():
            where = f"cloud.networks.{name}"
            self.name(where, str(name), 20)
            network = self.network(where, str(text))
            if network is None:
                continue
            for other, at in known.items():
                if other and network.overlaps(ipaddress.IPv4Network(other)):
                    self.wrong(where, f"shares addresses with {at} ({other}); write another network", text)
            known[str(network)] = where
        if "parallel" in options and options["parallel"] < 1:
            self.wrong("cloud.parallel", "too few; write 1 or more", options["parallel"])
        if options.get("user") and not USER_NAME.match(options["user"]):
            self.wrong("cloud.user", "no user name; write for instance debian", options["user"])
        return CloudSpec(provider, options)

    def values(self, content: object, site: str) -> dict[str, t.Any]:
        values = self.mapping("values", content, VALUE_KEYS)
        if "domain" not in values:
            values["domain"] = f"{site}.internal"
        elif not DOMAIN.match(values["domain"]):
            self.wrong("values.domain", f"no domain; write for instance {site or 'lab'}.internal", values["domain"])
        if not USER_NAME.match(values["job_user"]) or values["job_user"] == "root":
            self.wrong("values.job_user", "no user name for jobs; write for instance galaxy", values["job_user"])
        if not 1000 <= values["job_uid"] <= 60000:
            self.wrong("values.job_uid", "outside 1000 to 60000; write for instance 7100", values["job_uid"])
        return values

    def shared_directories(self, content: object) -> tuple[SharedDirSpec, ...]:
        if not isinstance(content, dict):
            self.wrong("shared_dirs", "no mapping; write for instance {database: {path: /srv/omtd/database}}", content)
            return ()
        result: list[SharedDirSpec] = []
        for name, entry in content.items():
            where = f"shared_dirs.{name}"
            self.name(where, str(name), 20)
            keys = self.mapping(where, entry, SHARED_DIR_KEYS)
            for key in ("path", "source"):
                if keys.get(key) and not _absolute(keys[key]):
                    self.wrong(f"{where}.{key}", "no absolute path; write for instance /srv/omtd/database", keys[key])
            for other in result:
                if keys.get("path") == other.path:
                    self.wrong(f"{where}.path", f"also of shared_dirs.{other.name}; write another", keys["path"])
            result.append(SharedDirSpec(str(name), keys.get("path", ""), keys["source"], keys["keep"]))
        return tuple(result)

    def volumes(self, path: str, content: Mapping) -> tuple[VolumeSpec, ...]:
        result: list[VolumeSpec] = []
        for name, entry in content.items():
            where = f"{path}.{name}"
            self.name(where, str(name), 20)
            keys = self.mapping(where, entry, VOLUME_KEYS)
            size = self.size(f"{where}.size", keys["size"], "GiB") if "size" in keys else 0
            mount = keys["path"] or KNOWN_VOLUME_PATHS.get(str(name)) or f"{VOLUME_PATH_ROOT}/{name}"
            if not _absolute(mount):
                self.wrong(f"{where}.path", "no absolute path; write for instance /srv/omtd/registry", mount)
            for other in result:
                if mount == other.path:
                    self.wrong(f"{where}.path", f"also of the volume {other.name}; write another", mount)
            result.append(VolumeSpec(str(name), size, keys["keep"], mount))
        return tuple(result)

    def address_list(self, path: str, keys: dict[str, t.Any], user: str) -> tuple[AddressSpec, ...]:
        """``address`` or ``addresses``: an address, or {private, public, user, port}."""
        if "address" in keys and "addresses" in keys:
            self.wrong(f"{path}.address", "stands beside addresses; write all of them in addresses")
        entries = keys.get("addresses")
        where = f"{path}.addresses"
        if entries is None:
            entries, where = ([keys["address"]] if "address" in keys else []), f"{path}.address"
        result = []
        for number, entry in enumerate(entries):
            at = f"{where}[{number}]" if where.endswith("addresses") else where
            plain = isinstance(entry, str)
            values = self.mapping(at, {"private": entry} if plain else entry, ADDRESS_KEYS)
            for key in ("private", "public"):
                if values.get(key):
                    self.ip_address(at if plain else f"{at}.{key}", values[key])
            if not 1 <= values["port"] <= 65535:
                self.wrong(f"{at}.port", "no port; write 1 to 65535", values["port"])
            result.append(
                AddressSpec(values.get("private", ""), values["public"], values["user"] or user, values["port"])
            )
        return tuple(result)

    def machine(
        self, name: str, entry: object, defaults: dict[str, t.Any], cloud: CloudSpec, shared_names: t.Container[str]
    ) -> MachineSpec:
        path = f"machines.{name}"
        self.name(path, name)
        own = self.mapping(path, {} if entry is None else entry, MACHINE_KEYS)
        inherited = {key: value for key, value in defaults.items() if not _displaced(key, own)}
        keys = {**inherited, **own}

        def at(key: str) -> str:
            return f"{path}.{key}" if key in own else f"defaults.{key}"

        groups = tuple(dict.fromkeys(keys.get("groups", ())))
        for group in groups:
            if group in GROUP_CHILDREN:
                children = " or ".join(GROUP_CHILDREN[group])
                self.wrong(at("groups"), f"made of other groups; write {children}", group)
            elif group not in ASSIGNABLE_GROUPS:
                self.wrong(at("groups"), _unknown("group", group, ASSIGNABLE_GROUPS), group)
        for shared in keys.get("shared_dirs", ()):
            if shared not in shared_names:
                self.wrong(at("shared_dirs"), f"no such directory; describe it as shared_dirs.{shared}", shared)
        user = keys.get("user", "") or (cloud.options.get("user", "") if cloud.provider == "existing" else "")
        addresses = self.address_list(path, keys, user)
        count = keys.get("count", len(addresses) or 1)
        if count < 0:
            self.wrong(at("count"), "below zero; write 0 or more", count)
            count = 0
        if "flavor" in keys:
            for key in ("vcpus", "ram", "disk"):
                if key in keys:
                    self.wrong(
                        at(key), f"stands beside flavor {keys['flavor']}, which decides it; leave out one of them"
                    )
        if keys.get("vcpus", 1) < 1:
            self.wrong(at("vcpus"), "too few; write 1 or more", keys["vcpus"])
        machine = MachineSpec(
            name=name,
            count=count,
            groups=groups,
            image=keys.get("image", ""),
            flavor=keys.get("flavor", ""),
            vcpus=keys.get("vcpus", 0),
            ram_mib=self.size(at("ram"), keys["ram"], "MiB", 32) if "ram" in keys else 0,
            disk_gib=self.size(at("disk"), keys["disk"], "GiB") if "disk" in keys else 0,
            volumes=self.volumes(at("volumes"), keys.get("volumes", {})),
            public_ip=keys.get("public_ip", False),
            networks=tuple(dict.fromkeys(keys.get("networks", ()))),
            shared_dirs=tuple(dict.fromkeys(keys.get("shared_dirs", ()))),
            user_data=keys.get("user_data", ""),
            metadata=self.metadata(at("metadata"), keys.get("metadata", {})),
            addresses=addresses,
        )
        return self.provider_rules(path, machine, keys, cloud, at)

    def metadata(self, path: str, content: Mapping) -> tuple[tuple[str, str], ...]:
        result = []
        for key, value in content.items():
            if not METADATA_KEY.match(str(key)) or str(key).startswith("omtd_"):
                self.wrong(
                    f"{path}.{key}", "no name for metadata; write letters, digits, _ . -, not beginning with omtd_"
                )
            elif isinstance(value, (dict, list)) or value is None:
                self.wrong(f"{path}.{key}", "not a text; write one text", value)
            else:
                result.append((str(key), str(value)))
        return tuple(sorted(result))

    def provider_rules(
        self, path: str, machine: MachineSpec, keys: Mapping, cloud: CloudSpec, at: t.Callable[[str], str]
    ) -> MachineSpec:
        """What only one cloud wants, and what it gives when the file says nothing."""
        if cloud.provider == "existing":
            if not machine.addresses and machine.count:
                self.wrong(f"{path}.addresses", "missing; write the address of each host of the machine")
            elif len(machine.addresses) != machine.count:
                self.wrong(
                    at("count"),
                    f"there are {len(machine.addresses)} addresses; write as many, or leave count out",
                    machine.count,
                )
                machine = dataclasses.replace(machine, count=min(machine.count, len(machine.addresses)))
            return machine
        for key in ("address", "addresses", "user"):
            if key in keys:
                self.wrong(
                    at(key), f"is for provider existing; {cloud.provider or 'this cloud'} chooses it, leave it out"
                )
        machine = dataclasses.replace(machine, addresses=())
        if cloud.provider == "podman":
            machine = self.podman_rules(path, machine, cloud, at)
        return machine

    def podman_rules(
        self, path: str, machine: MachineSpec, cloud: CloudSpec, at: t.Callable[[str], str]
    ) -> MachineSpec:
        if machine.flavor:
            self.wrong(at("flavor"), "podman has no flavors; write vcpus, ram and disk", machine.flavor)
        image = machine.image or "debian-12"
        if image not in podman_image.RELEASES:
            self.wrong(at("image"), f"unknown; write one of {', '.join(podman_image.RELEASES)}", image)
        for network in machine.networks:
            if network not in cloud.options.get("networks", {}):
                self.wrong(at("networks"), f"no such network; describe it as cloud.networks.{network}", network)
        if machine.user_data and not machine.user_data.startswith("#!"):
            self.wrong(at("user_data"), "podman runs scripts only; write one that begins with #!")
        disk_gib = machine.disk_gib or 10
        volumes = machine.volumes
        if all(volume.path != KNOWN_VOLUME_PATHS["docker"] for volume in volumes):
            # Docker cannot stack its overlay upon the container's own: it always needs a volume.
            name = "docker" if all(volume.name != "docker" for volume in volumes) else "docker-scratch"
            volumes = (*volumes, VolumeSpec(name, disk_gib, False, KNOWN_VOLUME_PATHS["docker"], True))
        return dataclasses.replace(
            machine,
            image=image,
            vcpus=machine.vcpus or 1,
            ram_mib=machine.ram_mib or 1024,
            disk_gib=disk_gib,
            volumes=volumes,
        )

    def fleet(self, content: object, folder: str) -> FleetSpec:
        if not isinstance(content, dict):
            self.wrong("fleet file", "no mapping; write the keys site, cloud and machines")
            return FleetSpec("", CloudSpec(""), {}, (), ())
        top = self.mapping("", {key: value for key, value in content.items() if key not in INVENTORY_KEYS}, TOP_KEYS)
        site = top.get("site", "")
        if "site" in top:
            self.name("site", site, MAX_SITE_NAME)
        cloud = self.cloud(top["cloud"]) if "cloud" in top else CloudSpec("")
        shared_dirs = self.shared_directories(top["shared_dirs"])
        defaults = self.mapping("defaults", top["defaults"], MACHINE_KEYS)
        for key in ("address", "addresses"):
            if key in defaults:
                self.wrong(f"defaults.{key}", "two machines cannot share an address; write it under machines")
                del defaults[key]
        names = {shared.name for shared in shared_dirs}
        machines = tuple(
            self.machine(str(name), entry, defaults, cloud, names) for name, entry in top.get("machines", {}).items()
        )
        if "machines" in top and not machines:
            self.wrong("machines", "empty; describe at least one machine")
        values = self.values(top["values"], site)
        for name, key in (("database", "database_dir"), ("tools", "tools_dir")):
            paths = [shared.path for shared in shared_dirs if shared.name == name and shared.path]
            values[key] = paths[0] if paths else f"/srv/omtd/{name}"
        spec = FleetSpec(site, cloud, values, shared_dirs, machines, self.adopt(top["adopt"]), folder)
        self.whole(spec)
        # One mistake in `defaults` is found once for every machine: it is told once.
        self.problems = list(dict.fromkeys(self.problems))
        return spec

    def adopt(self, content: Mapping) -> dict[str, str]:
        result = {}
        for host, existing in content.items():
            if isinstance(existing, (dict, list)) or existing is None:
                self.wrong(
                    f"adopt.{host}", "not a text; write the name or id of the machine that is taken over", existing
                )
            else:
                result[str(host)] = str(existing)
        return result

    def whole(self, spec: FleetSpec) -> None:
        """Rules that need the whole file."""
        hosts = spec.hosts()
        names = {host.name for host in hosts}
        for machine in spec.machines:
            longest = host_name(spec.site, machine.name, max(machine.count, 1))
            if len(longest) > MAX_HOST_NAME:
                self.wrong(
                    f"machines.{machine.name}",
                    f"the host name {longest} has {len(longest)} characters; at most {MAX_HOST_NAME}, shorten it",
                )
        for adopter in spec.adopt:
            if adopter not in names:
                self.wrong(f"adopt.{adopter}", _unknown("host", adopter, names))
        for other in {name for name, number in _counted(spec.adopt.values()).items() if number > 1}:
            self.wrong("adopt", "taken over by two hosts; write one of them", other)
        addresses: dict[tuple[str, int], str] = {}
        for host in hosts:
            if host.address and host.address.private:
                key = (host.address.private, host.address.port)
                if key in addresses:
                    self.wrong(
                        f"machines.{host.machine.name}.addresses",
                        f"also the address of {addresses[key]}; give each host its own",
                        host.address.private,
                    )
                addresses[key] = host.name
        subnet = spec.cloud.options.get("subnet")
        if subnet and spec.cloud.provider == "podman":
            room = ipaddress.IPv4Network(subnet).num_addresses - FIRST_HOST_OFFSET - 1
            if len(hosts) > room:
                self.wrong(
                    "cloud.subnet", f"has room for {room} hosts, there are {len(hosts)}; write a larger one", subnet
                )


def parse(content: object, folder: str = "", source: str = "", problems: t.Iterable[str] = ()) -> FleetSpec:
    """A fleet file's content (plain YAML values) as a FleetSpec. Raises FleetFileError with everything that is wrong.

    ``problems`` are mistakes that were found before, for instance names that stand in the file twice.
    """
    parser = _Parser()
    spec = parser.fleet(content, folder)
    found = [*problems, *parser.problems]
    if found:
        raise FleetFileError(found, source)
    return spec


def load(path: str | Path) -> FleetSpec:
    """Reads and checks a fleet file. Raises FleetFileError, also when the file cannot be read or is no YAML."""
    file = Path(path).expanduser()
    source = str(path)
    if not HAS_YAML:
        raise FleetFileError(["the Python library PyYAML is missing; install it where Ansible runs"], source)
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except FileNotFoundError as exc:
        raise FleetFileError(["no such file; make one with omtd.workflow.new_site"], source) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise FleetFileError([f"cannot be read: {exc}"], source) from exc
    except yaml.YAMLError as exc:
        raise FleetFileError([f"is no YAML: {' '.join(str(exc).split())}"], source) from exc
    twice = list(_written_twice(node, ""))
    return parse(content, folder=str(file.resolve().parent), source=source, problems=twice)


def _written_twice(node: t.Any, path: str) -> t.Iterator[str]:
    """The keys that stand twice in one mapping: YAML would silently take the last of them."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            where, line = _join(path, key), key_node.start_mark.line + 1
            if key in seen:
                yield f"{where}: stands twice, in lines {seen[key]} and {line}; give them different names"
            seen[key] = line
            yield from _written_twice(value_node, where)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _written_twice(item, f"{path}[{number}]")


# ------------------------------------------------------------------------------------------------ for the inventory


def site_values(spec: FleetSpec) -> dict[str, t.Any]:
    """The site-wide variables of the group ``all``."""
    values = spec.values
    return {
        "site_name": spec.site,
        "site_domain": values["domain"],
        "site_timezone": values["timezone"],
        "site_shared_storage": values["shared_storage"],
        "site_database_dir": values["database_dir"],
        "site_tools_dir": values["tools_dir"],
        "site_job_user": values["job_user"],
        "site_job_uid": values["job_uid"],
        "site_folder": spec.folder,
        "cluster_scheduler": values["scheduler"],
    }


def private_addresses(spec: FleetSpec, taken: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """{host name: private address} where the provider lets us choose it, else {}.

    A host keeps the address that it has (``taken``: {any machine's name: address}). A new one gets an address that
    follows from its name alone, or the next free one: so it stays the same when other machines come and go.
    """
    subnet = spec.cloud.subnet
    if spec.cloud.provider == "existing" or subnet is None:
        return {host.name: host.address.private for host in spec.hosts() if host.address}
    names = [host.name for host in spec.hosts()]
    result = {name: address for name, address in (taken or {}).items() if name in set(names) and address}
    used = {address for address in (taken or {}).values() if address}
    first, room = FIRST_HOST_OFFSET, subnet.num_addresses - FIRST_HOST_OFFSET - 1
    for name in sorted(set(names) - set(result)):
        start = zlib.crc32(name.encode()) % room
        for step in range(room):
            address = str(subnet[first + (start + step) % room])
            if address not in used:
                result[name] = address
                used.add(address)
                break
    return result


# ------------------------------------------------------------------------------------------------------- helpers


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _some(value: object) -> tuple[object, ...]:
    return () if value is None else (value,)


def _is_of(value: object, wanted: str) -> bool:
    """Whether Ansible's validator may convert the value. It is more lenient than people expect: it makes texts of
    mappings, and mappings of texts."""
    if wanted == "raw":
        return True
    if wanted == "dict":
        return isinstance(value, dict)
    if wanted == "list":
        return isinstance(value, (list, str)) and not (
            isinstance(value, list) and any(isinstance(each, list) or each is None for each in value)
        )
    if wanted == "int":
        return isinstance(value, (int, str)) and not isinstance(value, bool)
    return isinstance(value, (str, int, float, bool))


def _unknown(kind: str, name: str, known: t.Iterable[str]) -> str:
    names = sorted(str(each) for each in known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else f"write one of {', '.join(names[:20])}"
    return f"unknown {kind}; {hint}"


def _absolute(path: str) -> bool:
    """Whether a path is absolute and plain: no .., and none of the characters that separate mounts."""
    return path.startswith("/") and path != "/" and not re.search(r"[:,\s\x00]", path) and ".." not in path.split("/")


def _displaced(key: str, own: t.Container[str]) -> bool:
    """Whether a machine's own key displaces a default: a flavor takes the place of sizes, and sizes of a flavor."""
    sizes = ("vcpus", "ram", "disk")
    return (key in sizes and "flavor" in own) or (key == "flavor" and any(size in own for size in sizes))


def _counted(values: t.Iterable[str]) -> dict[str, int]:
    result: dict[str, int] = {}
    for value in values:
        result[value] = result.get(value, 0) + 1
    return result
