"""What must be true of a site, told for every way it can be false."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.omtd.workflow.plugins.module_utils.site.checks import Findings, Host, Site, check, names
from site_runs import COLLECTION, table

TABLES = yaml.safe_load((COLLECTION / "playbooks" / "vars" / "site_roles.yml").read_text(encoding="utf-8"))
DEBIAN_12 = {"distribution": "Debian", "distribution_major_version": "12", "distribution_version": "12.9"}
DEBIAN_13 = {"distribution": "Debian", "distribution_major_version": "13", "distribution_version": "13.1"}
SECRETS = {row["name"]: f"Quite-g00d-{index}-kX7pWm" for index, row in enumerate(table())}
VALUES = {"site_name": "s", "site_domain": "s.internal", "site_timezone": "Etc/UTC", **SECRETS}


def host(name: str, *groups: str, facts: dict[str, object] | None = None, **variables: object) -> Host:
    values = {"fleet_state": "present", "fleet_ram_mib": 8192, **variables}
    return Host(name, frozenset(groups), values, DEBIAN_12 if facts is None else facts)


def whole() -> dict[str, Host]:
    return {
        each.name: each
        for each in (
            host("e", "executor"),
            host("m", "cluster_master"),
            host("r", "docker_registry"),
            host("w1", "cluster_nodes", "normal"),
            host("w2", "cluster_nodes", "normal"),
            host("h", "cluster_nodes", "heavyweight"),
        )
    }


def look(hosts: dict[str, Host], **values: object) -> Findings:
    return check(
        Site(
            values={**VALUES, **values},
            hosts=list(hosts.values()),
            secrets=table(),
            needs=TABLES["site_group_needs"],
            forbidden=TABLES["site_forbidden_combinations"],
            memory=TABLES["site_memory_needs"],
            time_zones={"Etc/UTC", "Europe/Athens"},
        )
    )


def test_a_whole_site_has_no_finding() -> None:
    found = look(whole())
    assert found == Findings([], [])


def test_no_host_at_all_is_a_finding() -> None:
    assert "inventory: no host" in look({}).errors[0]


def test_everything_on_two_machines_is_allowed() -> None:
    hosts = {
        "a": host("a", "executor", "cluster_master", "docker_registry"),
        "b": host("b", "cluster_nodes", "normal"),
    }
    assert look(hosts).errors == []


@pytest.mark.parametrize("gone", ["m", "r"])
def test_a_group_that_others_need_and_nobody_is_in_is_told_once(gone: str) -> None:
    hosts = whole()
    (group,) = hosts.pop(gone).groups
    errors = look(hosts).errors
    assert len(errors) == 1
    assert errors[0].startswith(f"{group}: no host: needed by ")


def test_a_cluster_without_normal_nodes_is_told_what_goes_wrong() -> None:
    hosts = whole()
    del hosts["w1"], hosts["w2"]
    assert any(line.startswith("normal: no host") for line in look(hosts).errors)


def test_a_node_without_a_class_is_found() -> None:
    hosts = {**whole(), "w3": host("w3", "cluster_nodes")}
    assert any("w3" in line and "normal or heavyweight" in line for line in look(hosts).errors)


@pytest.mark.parametrize("group", ["executor", "cluster_master", "docker_registry"])
def test_what_runs_once_may_not_be_wanted_twice(group: str) -> None:
    hosts = {**whole(), "x": host("x", group)}
    assert any(line.startswith(f"{group}: 2 hosts") for line in look(hosts).errors)


def test_jobs_may_not_run_on_the_way_in() -> None:
    hosts = {**whole(), "w1": host("w1", "cluster_nodes", "normal", "jump_host")}
    assert any(line.startswith("jump_host + cluster_nodes: w1") for line in look(hosts).errors)


def test_mixed_releases_in_a_cluster_are_refused_and_the_hosts_named() -> None:
    hosts = {**whole(), "w2": host("w2", "cluster_nodes", "normal", facts=DEBIAN_13)}
    (error,) = look(hosts).errors
    assert "Debian 13: w2" in error
    assert "Debian 12: e, h, m, w1" in error


def test_a_registry_may_have_another_release_than_the_cluster() -> None:
    hosts = {**whole(), "r": host("r", "docker_registry", facts=DEBIAN_13)}
    assert look(hosts).errors == []


@pytest.mark.parametrize(
    ("distribution", "version"), [("Debian", "11"), ("Ubuntu", "20.04"), ("CentOS", "7"), ("Debian", "14")]
)
def test_a_wrong_operating_system_is_refused(distribution: str, version: str) -> None:
    facts = {
        "distribution": distribution,
        "distribution_version": version,
        "distribution_major_version": version.split(".", maxsplit=1)[0],
    }
    hosts = {**whole(), "r": host("r", "docker_registry", facts=facts)}
    (error,) = look(hosts).errors
    assert error.startswith(f"operating system: {distribution} {version}: r ")


def test_too_little_memory_counts_what_the_fleet_promises_and_what_the_host_has() -> None:
    promised = {**whole(), "e": host("e", "executor", fleet_ram_mib=1024)}
    assert any(line.startswith("memory: 1024 MiB: e (executor)") for line in look(promised).errors)
    seen = {**whole(), "e": host("e", "executor", fleet_ram_mib=0, facts={**DEBIAN_12, "memtotal_mb": 980})}
    assert any("e (executor)" in line for line in look(seen).errors)


def test_a_machine_that_shows_a_little_less_than_it_was_sold_with_is_enough() -> None:
    need = TABLES["site_memory_needs"]["all"] + TABLES["site_memory_needs"]["executor"]
    facts = {**DEBIAN_12, "memtotal_mb": int(need * 0.95)}
    assert look({**whole(), "e": host("e", "executor", fleet_ram_mib=need, facts=facts)}).errors == []


def test_memory_adds_up_where_groups_share_a_host() -> None:
    hosts = {
        "a": host("a", "executor", "cluster_master", "docker_registry", fleet_ram_mib=2400),
        "b": host("b", "cluster_nodes", "normal"),
    }
    assert any(line.startswith("memory: 2400 MiB: a") for line in look(hosts).errors)


def test_secrets_are_wanted_only_where_their_service_runs() -> None:
    gate = {"g": host("g", "jump_host")}
    none = dict.fromkeys(SECRETS, "")
    missing = [line for line in look(gate, **none).errors if ": missing:" in line]
    assert [line.split(":")[0] for line in missing] == ["vault_site_ca_passphrase"]
    assert len([line for line in look(whole(), **none).errors if ": missing:" in line]) == len(SECRETS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cluster_scheduler", "pbs"),
        ("site_shared_storage", "floppy"),
        ("site_database_dir", "relative/path"),
        ("site_tools_dir", "/"),
        ("site_domain", "Not A Domain"),
        ("site_timezone", "Mars/Olympus"),
        ("site_job_uid", 0),
        ("site_job_uid", "root"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_write(name: str, value: object) -> None:
    (error,) = look(whole(), **{name: value}).errors
    assert error.startswith(f"{name}: {value!r}: ")
    assert "write" in error


@pytest.mark.parametrize(("name", "value"), [("cluster_scheduler", "mesos"), ("site_shared_storage", "nfs")])
def test_what_this_release_cannot_install_is_refused_by_name(name: str, value: str) -> None:
    site = Site(values={**VALUES, name: value}, hosts=list(whole().values()), roles=["base", "slurm_controller"])
    errors = [line for line in check(site).errors if line.startswith(name)]
    assert len(errors) == 1
    assert f"{value!r}: this release does not install it; write " in errors[0]


def test_nfs_storage_needs_its_server() -> None:
    assert any(line.startswith("nfs_server: no host") for line in look(whole(), site_shared_storage="nfs").errors)


def test_two_hosts_with_one_address_are_found() -> None:
    hosts = whole()
    for name in ("w1", "w2"):
        hosts[name].variables["fleet_private_address"] = "10.0.0.9"  # type: ignore[index]
    assert any("10.0.0.9: w1, w2" in line for line in look(hosts).errors)


def test_a_directory_that_is_not_the_same_on_all_hosts_is_warned_of() -> None:
    hosts = whole()
    for number, name in enumerate(("e", "w1", "w2", "h")):
        hosts[name].storage = {"isdir": True, "inode": 7 if number else 8}
    found = look(hosts)
    assert found.errors == []
    assert "inode" in found.warnings[0]


def test_every_finding_has_a_thing_a_rule_and_a_way_out() -> None:
    hosts = {**whole(), "e": host("e", "executor", fleet_ram_mib=10, fleet_state="absent")}
    hosts.pop("m")
    for line in look(hosts, cluster_scheduler="pbs", vault_slurm_munge_key="x", vault_registry_http_secret="").errors:
        assert line.count(": ") >= 2, line
        assert "; " in line, line


def test_a_message_stays_short_at_any_size() -> None:
    text = names(f"w-{number}" for number in range(1, 1001))
    assert text == "w-1, w-2, w-3, w-4, w-5, w-6, w-7, w-8 and 992 more"


def test_validate_knows_every_role_that_the_site_runs_on_a_group() -> None:
    folder = COLLECTION / "playbooks"
    imported = [play["ansible.builtin.import_playbook"] for play in yaml.safe_load((folder / "site.yml").read_text())]
    missing = []
    for name in imported:
        for play in yaml.safe_load((folder / f"{name.removeprefix('omtd.workflow.')}.yml").read_text()):
            roles = [role["role"].removeprefix("omtd.workflow.") for role in play.get("roles", [])]
            for group in play["hosts"].split(":"):
                known = [*TABLES["site_roles"]["all"], *TABLES["site_roles"].get(group, [])]
                missing += [f"{group}: {role}" for role in roles if role not in known]
    assert missing == []
