# Copyright: The omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one firewall table of a site, as the rules of one host.

The table (``roles/base/vars/firewall.yml``) says from which groups which groups may be reached at which ports.
These filters only rearrange it; what the rules look like is the business of the template that prints them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def site_addresses(hostvars: Mapping[str, Mapping[str, Any]], hosts: Iterable[str]) -> dict[str, str]:
    """Give the private address of every host of the site that exists and has one: {host: address}."""
    addresses = {}
    for host in hosts:
        variables = hostvars[host]
        if variables.get("fleet_state", "present") == "present" and variables.get("fleet_private_address"):
            addresses[str(host)] = str(variables["fleet_private_address"])
    return addresses


def _split(addresses: Iterable[str]) -> dict[str, list[str]]:
    """Sort addresses and networks by family, without doubles; a family without any is left out: {ipv4: [...]}."""
    families: dict[str, list[str]] = {"ipv4": [], "ipv6": []}
    for address in sorted(set(addresses)):
        families["ipv6" if ":" in address else "ipv4"].append(address)
    return {family: found for family, found in families.items() if found}


def _is_network(source: str) -> bool:
    return "." in source or ":" in source


def firewall_rules(
    table: list[dict[str, Any]],
    own_groups: list[str],
    groups: Mapping[str, list[str]],
    addresses: Mapping[str, str],
    networks: Mapping[str, list[str]],
) -> dict[str, list[dict[str, Any]]]:
    """Give the rows of the table that open something on a host, with their sources as addresses.

    ``own_groups`` are the host's groups (``all`` always counts as one), ``groups`` those of the inventory,
    ``addresses`` is {host: address}, and ``networks`` says what words such as ``operators`` stand for.

    Returns ``sets``: [{name, family: ipv4|ipv6, addresses}], one for each source that has addresses of a family,
    and ``rules``: [{why, openings: [{source: a set's name or a network, set: bool, family, protocol, ports}]}].
    A source without addresses (an empty group) opens nothing.
    """
    sets: dict[str, dict[str, list[str]]] = {}
    rules = []
    for row in table:
        if not set(row["to"]) & {*own_groups, "all"}:
            continue
        openings = []
        for source in row["from"]:
            if _is_network(source):
                families = _split([source])
            elif source in sets:
                families = sets[source]
            elif source in networks:
                families = sets[source] = _split(networks[source])
            else:
                families = sets[source] = _split(
                    addresses[host] for host in groups.get(source, []) if host in addresses
                )
            for protocol in ("tcp", "udp"):
                ports = [port.partition("/")[2] for port in row["ports"] if port.startswith(f"{protocol}/")]
                openings += [
                    {"source": source, "set": source in sets, "family": family, "protocol": protocol, "ports": ports}
                    for family in families
                    if ports
                ]
        rules.append({"why": row["why"], "openings": openings})
    return {
        "sets": [
            {"name": f"{source}_{family}", "family": family, "addresses": found}
            for source, families in sorted(sets.items())
            for family, found in families.items()
        ],
        "rules": rules,
    }


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"firewall_rules": firewall_rules, "site_addresses": site_addresses}
