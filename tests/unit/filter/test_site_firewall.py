"""What the one firewall table means for one host."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.omtd.workflow.plugins.filter.site_firewall import firewall_rules, site_addresses

COLLECTION = Path(__file__).resolve().parents[3]
GROUPS = {"all": ["a", "b", "c"], "master": ["a"], "nodes": ["b", "c"], "empty": []}
ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "fd00::3"}
NETWORKS = {"any": ["0.0.0.0/0", "::/0"], "operators": [], "trusted": ["192.0.2.0/24"]}


def rules(table: list[dict], own_groups: list[str]) -> dict:
    """Give the rules of a host that is in ``own_groups``."""
    return firewall_rules(table, own_groups, GROUPS, ADDRESSES, NETWORKS)


def row(source: str, target: str = "master", ports: str = "tcp/6817") -> dict:
    """Give a row of the table."""
    return {"from": [source], "to": [target], "ports": [ports], "why": "because"}


def test_a_row_for_other_groups_opens_nothing() -> None:
    assert rules([row("nodes")], ["nodes"]) == {"sets": [], "rules": []}


def test_a_row_for_all_opens_every_host() -> None:
    assert rules([row("master", "all")], ["whatever"])["rules"][0]["openings"][0]["source"] == "master"


def test_a_group_becomes_the_addresses_of_its_hosts_one_set_for_each_family() -> None:
    assert rules([row("nodes")], ["master"])["sets"] == [
        {"name": "nodes_ipv4", "family": "ipv4", "addresses": ["10.0.0.2"]},
        {"name": "nodes_ipv6", "family": "ipv6", "addresses": ["fd00::3"]},
    ]


@pytest.mark.parametrize("source", ["empty", "unknown", "operators"])
def test_a_source_without_addresses_opens_nothing(source: str) -> None:
    found = rules([row(source)], ["master"])
    assert found["sets"] == []
    assert found["rules"][0]["openings"] == []


def test_a_network_stands_for_itself() -> None:
    opening = rules([row("198.51.100.0/24")], ["master"])["rules"][0]["openings"]
    assert [(item["source"], item["set"], item["family"]) for item in opening] == [("198.51.100.0/24", False, "ipv4")]


def test_tcp_and_udp_are_opened_apart() -> None:
    table = [{"from": ["master"], "to": ["nodes"], "ports": ["tcp/1", "udp/2", "tcp/3-4"], "why": "because"}]
    openings = rules(table, ["nodes"])["rules"][0]["openings"]
    assert [(item["protocol"], item["ports"]) for item in openings] == [("tcp", ["1", "3-4"]), ("udp", ["2"])]


def test_a_source_of_two_rows_is_one_set() -> None:
    assert len(rules([row("master", "all"), row("master", "all", "tcp/1")], [])["sets"]) == 1


def test_hosts_that_do_not_exist_or_have_no_address_are_left_out() -> None:
    hostvars = {
        "here": {"fleet_state": "present", "fleet_private_address": "10.0.0.1"},
        "gone": {"fleet_state": "absent", "fleet_private_address": "10.0.0.2"},
        "nowhere": {"fleet_state": "present", "fleet_private_address": ""},
        "plain": {},
    }
    assert site_addresses(hostvars, hostvars) == {"here": "10.0.0.1"}


def test_every_row_of_the_sites_table_names_known_groups_and_says_why() -> None:
    table = yaml.safe_load((COLLECTION / "roles/base/vars/firewall.yml").read_text())["_base_firewall_table"]
    known = {
        *("all", "any", "operators", "trusted", "jump_host", "nfs_server", "docker_registry", "cluster_master"),
        *(
            "cluster_nodes",
            "normal",
            "heavyweight",
            "executor",
            "editor",
            "monitor",
            "workflow_service",
            "testing_host",
        ),
    }
    assert {name for entry in table for name in entry["from"] + entry["to"]} <= known
    assert all(entry["why"] and entry["ports"] for entry in table)
