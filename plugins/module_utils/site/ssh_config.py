# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ssh_config of a site: how its hosts are reached, with which keys they are known. No I/O.

ssh starts itself once more for ProxyJump and hands on only ``-F``, none of the other options of the outer command
(readconf.c of OpenSSH). So everything that must hold for the jump host stands in this file, and Ansible is given
``-F`` alone.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

_WORD = re.compile(r"[A-Za-z0-9._:%+@-]*")


@dataclasses.dataclass(frozen=True)
class Destination:
    """A host that ssh can be told to reach."""

    name: str
    address: str
    user: str = ""
    port: int = 22
    identity_file: str = ""
    alias: str = ""
    """the name under which known_hosts has the host's key; '' for its address"""
    jump: str = ""
    """name of the host to go through; '' when it is reached directly"""


def render(site: str, destinations: t.Iterable[Destination], known_hosts: t.Sequence[str]) -> str:
    """The text of the file. ``known_hosts`` are the files with host keys, the first one being where ssh would
    add. The same hosts give the same text, in whatever order they come."""
    for host in (destinations := list(destinations)):
        _refuse_directives(host)
    parts = [
        f"# How the hosts of the site {site} are reached. Written by the inventory; changes are lost.\n"
        f"# By hand: ssh -F <this file> <host>\n"
    ]
    for host in sorted(destinations, key=lambda each: each.name):
        lines = [f"Host {host.name}" + (f" {host.address}" if host.address != host.name else "")]
        lines.append(f"HostName {host.address}")
        if host.alias:
            lines.append(f"HostKeyAlias {host.alias}")
        if host.user:
            lines.append(f"User {host.user}")
        if host.port != 22:
            lines.append(f"Port {host.port}")
        if host.identity_file:
            lines += [f"IdentityFile {quote(host.identity_file)}", "IdentitiesOnly yes"]
        if host.jump:
            lines.append(f"ProxyJump {host.jump}")
        parts.append("\n  ".join(lines) + "\n")
    # The first value that ssh finds counts, so what holds for every host comes last.
    parts.append(
        "Host *\n"
        "  StrictHostKeyChecking yes\n"
        f"  UserKnownHostsFile {' '.join(quote(path) for path in known_hosts)}\n"
        "  UpdateHostKeys no\n"
        "  CheckHostIP no\n"
        "  ServerAliveInterval 20\n"
        "  ServerAliveCountMax 3\n"
    )
    return "\n".join(parts)


def _refuse_directives(host: Destination) -> None:
    """A cloud's answer must not be able to write a line of the file: ProxyCommand would run it here.

    :raises ValueError: a value has characters that no name, address or account has
    """
    for what in ("name", "address", "user", "alias", "jump"):
        value = getattr(host, what)
        if not _WORD.fullmatch(value) or value.startswith("-"):
            raise ValueError(
                f"{host.name!r}: {what}: {value!r}: has characters that no host name, address or account has"
            )
    if any(ord(c) < 32 or c == '"' for c in host.identity_file):
        raise ValueError(
            f"{host.name!r}: identity_file: {host.identity_file!r}: has characters that ssh_config cannot hold"
        )


def quote(path: str) -> str:
    """A path as ssh_config wants it: percent signs are its own, blanks end a word."""
    escaped = path.replace("%", "%%")
    return f'"{escaped}"' if " " in escaped else escaped
