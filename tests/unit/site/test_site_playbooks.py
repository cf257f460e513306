"""The playbooks of a site folder, run for real."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from site_runs import FIXTURES, Outcome, dump, run, table, vault, write_hosts

PASSWORD = ["--vault-password-file", ".vault-password"]


def secrets(folder: Path, *more: str) -> Outcome:
    return run(["ansible-playbook", "-i", "hosts.yml", "omtd.workflow.secrets", *more], folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------- secrets


def test_every_secret_of_the_table_is_made_and_nobody_else_can_read_them(site: Path) -> None:
    outcome = secrets(site)
    assert outcome.code == 0, outcome.text
    assert outcome.changed == 1
    values = vault(site)
    assert set(values) == {row["name"] for row in table()}
    assert len(set(values.values())) == len(values)
    assert mode(site / ".vault-password") == 0o600
    assert mode(site / "group_vars/all/vault.yml") == 0o600
    assert "/.vault-password" in (site / ".gitignore").read_text().splitlines()


def test_no_secret_is_ever_printed(site: Path) -> None:
    outcome = secrets(site, "--diff", "-vvv")
    assert outcome.code == 0, outcome.text
    for name, value in vault(site).items():
        assert str(value) not in outcome.text, name
    assert (site / ".vault-password").read_text().strip() not in outcome.text


def test_a_second_run_changes_nothing(site: Path) -> None:
    secrets(site)
    before = (site / "group_vars/all/vault.yml").read_bytes()
    outcome = secrets(site, *PASSWORD)
    assert (outcome.code, outcome.changed) == (0, 0), outcome.text
    assert (site / "group_vars/all/vault.yml").read_bytes() == before


def test_a_later_run_adds_what_is_missing_and_keeps_the_rest_to_the_letter(site: Path) -> None:
    secrets(site)
    path = site / "group_vars/all/vault.yml"
    run(["ansible-vault", "decrypt", *PASSWORD, str(path)], site)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("vault_slurm_munge_key")]
    kept = "\n".join([*lines, "mine: 'my own'  # with a remark", ""])
    path.write_text(kept)
    run(["ansible-vault", "encrypt", *PASSWORD, str(path)], site)
    outcome = secrets(site, *PASSWORD)
    assert outcome.code == 0, outcome.text
    assert "1 secrets added" in outcome.text
    shown = run(["ansible-vault", "view", *PASSWORD, str(path)], site).stdout
    assert shown.startswith(kept)
    assert set(yaml.safe_load(shown)) == {*(row["name"] for row in table()), "mine"}


def test_check_mode_names_what_it_would_make_and_writes_nothing(site: Path) -> None:
    outcome = secrets(site, "--check", "--diff")
    assert outcome.code == 0, outcome.text
    assert outcome.changed == 1
    assert "vault_slurm_munge_key" in outcome.text
    assert sorted(path.name for path in site.iterdir() if not path.name.startswith(".ansible")) == ["hosts.yml"]


def test_a_configured_vault_password_is_used_and_no_other_is_made(site: Path) -> None:
    (site.parent / "password").write_text("the operator's own\n")
    outcome = secrets(site, "--vault-password-file", "../password")
    assert outcome.code == 0, outcome.text
    assert not (site / ".vault-password").exists()
    shown = run(["ansible-vault", "view", "--vault-password-file", "../password", "group_vars/all/vault.yml"], site)
    assert shown.code == 0


def test_a_vault_that_others_can_read_is_closed(site: Path) -> None:
    secrets(site)
    (site / "group_vars/all/vault.yml").chmod(0o644)
    outcome = secrets(site, *PASSWORD)
    assert outcome.changed == 1
    assert mode(site / "group_vars/all/vault.yml") == 0o600


def test_a_vault_that_is_not_encrypted_is_left_alone_with_a_way_out(site: Path) -> None:
    path = site / "group_vars/all/vault.yml"
    path.parent.mkdir(parents=True)
    path.write_text("vault_a: plain\n")
    outcome = secrets(site)
    assert outcome.code != 0
    assert "ansible-vault encrypt" in outcome.text
    assert path.read_text() == "vault_a: plain\n"


# ---------------------------------------------------------------- new_site


def test_a_new_site_has_what_an_operator_needs_and_its_own_files_are_never_overwritten(tmp_path: Path) -> None:
    make = ["ansible-playbook", "omtd.workflow.new_site", "-e", "name=mysite"]
    outcome = run(make, tmp_path)
    assert outcome.code == 0, outcome.text
    folder = tmp_path / "mysite"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "mysite.fleet.yml",
        "group_vars/all/main.yml",
        "ansible.cfg",
        ".gitignore",
        ".vault-password",
        "README.md",
    }
    assert mode(folder / ".vault-password") == 0o600
    password = (folder / ".vault-password").read_text()
    (folder / "mysite.fleet.yml").write_text("# mine\n")
    again = run(make, tmp_path)
    assert (again.code, again.changed) == (0, 0), again.text
    assert (folder / "mysite.fleet.yml").read_text() == "# mine\n"
    assert (folder / ".vault-password").read_text() == password


@pytest.mark.parametrize("provider", ["podman", "existing"])
def test_a_new_site_works_as_it_was_written(tmp_path: Path, provider: str) -> None:
    run(["ansible-playbook", "omtd.workflow.new_site", "-e", "name=my-site", "-e", f"provider={provider}"], tmp_path)
    folder = tmp_path / "my-site"
    graph = run(["ansible-inventory", "--graph"], folder)
    assert graph.code == 0, graph.text
    assert "my-site-executor-1" in graph.stdout
    made = run(["ansible-playbook", "omtd.workflow.secrets"], folder)
    assert (made.code, made.changed) == (0, 1), made.text
    again = run(["ansible-playbook", "omtd.workflow.secrets"], folder)
    assert (again.code, again.changed) == (0, 0), again.text


def test_a_mistake_in_the_fleet_file_stops_every_command_of_the_site(tmp_path: Path) -> None:
    run(["ansible-playbook", "omtd.workflow.new_site", "-e", "name=mysite"], tmp_path)
    path = tmp_path / "mysite" / "mysite.fleet.yml"
    path.write_text(path.read_text().replace("count: 1", "count: -1", 1).replace("  ram: 1 GiB", "  ram: 1 GIBB", 1))
    outcome = run(["ansible-playbook", "omtd.workflow.validate"], tmp_path / "mysite")
    assert outcome.code != 0
    assert "machines.worker.count" in outcome.text
    assert "defaults.ram" in outcome.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-e", "name=My_Site"], "name: 'My_Site'"),
        ([], "name: ''"),
        (["-e", "name=mysite", "-e", "provider=cloud9"], "provider: 'cloud9'"),
    ],
)
def test_what_cannot_become_a_site_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    outcome = run(["ansible-playbook", "omtd.workflow.new_site", *arguments], tmp_path)
    assert outcome.code != 0
    assert message in outcome.text
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


# ---------------------------------------------------------------- import_omtd


def import_omtd(folder: Path, *more: str) -> Outcome:
    hosts = FIXTURES / "omtd" / "hosts"
    return run(["ansible-playbook", "omtd.workflow.import_omtd", "-e", f"omtd_hosts={hosts}", *more], folder)


def test_an_omtd_hosts_file_becomes_a_site_that_ansible_can_read(tmp_path: Path) -> None:
    outcome = import_omtd(tmp_path)
    assert outcome.code == 0, outcome.text
    folder = tmp_path / "openminted"
    graph = run(["ansible-inventory", "--graph"], folder).stdout
    for host in ("executor-1", "registry-1", "master-1", "worker-1", "worker-2", "worker-3", "editor-1", "monitor-1"):
        assert f"openminted-{host}\n" in graph
    listed = yaml.safe_load(run(["ansible-inventory", "--host", "openminted-worker-3"], folder).stdout)
    assert "198.51.100.4" in str(listed["ansible_host"])
    assert listed["ansible_port"] == 2222
    again = import_omtd(tmp_path)
    assert (again.code, again.changed) == (0, 0), again.text


def test_good_secrets_of_omtd_go_into_the_vault_and_published_ones_do_not(tmp_path: Path) -> None:
    outcome = import_omtd(tmp_path, "-e", "name=moved")
    values = vault(tmp_path / "moved")
    assert values["vault_registry_pull_password"] == "a-Registry-Pa55word-of-their-own"
    assert values["vault_chronos_http_user"] == "clerk"
    assert values["vault_chronos_http_password"] == "Zt7cFq0mLw2RkX9e"
    assert values["vault_editor_remote_user_secret"] == "Jw4Gt6Bz9QfMc2Ra"
    assert values["vault_mesos_agent_credentials"] == {
        "198.51.100.2": {"principal": "agent2", "secret": "Vb3xN8uQpY5sHd1K"}
    }
    assert "vault_chronos_secret" not in values
    assert {row["name"] for row in table()} <= set(values)
    for secret in ("a-Registry-Pa55word-of-their-own", "Zt7cFq0mLw2RkX9e", "Jw4Gt6Bz9QfMc2Ra", "Vb3xN8uQpY5sHd1K"):
        assert secret not in outcome.text
        assert all(secret not in path.read_text() for path in (tmp_path / "moved").rglob("*") if path.is_file())


def test_what_omtd_had_and_the_site_has_not_is_listed(tmp_path: Path) -> None:
    outcome = import_omtd(tmp_path)
    left = (tmp_path / "openminted" / "MIGRATION.md").read_text()
    for name in ("galaxy_version", "chronos_secret", "cluster_threashold", "local_workers", "heavyweight", "force"):
        assert name in left
        assert name in outcome.text


def test_a_file_that_is_no_omtd_hosts_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[webservers]\n192.0.2.1\n")
    outcome = run(["ansible-playbook", "omtd.workflow.import_omtd", "-e", "omtd_hosts=hosts"], tmp_path)
    assert outcome.code != 0
    assert "none of the OMTD groups has a host" in outcome.text


# ---------------------------------------------------------------- validate


def here(**variables: object) -> dict[str, object]:
    """Variables of a host that is this computer, so that facts are gathered for real."""
    return {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3", **variables}


def whole_site(folder: Path, **changes: object) -> dict[str, object]:
    """A site with one host a group, all of them this computer."""
    hosts = {name: here(fleet_ram_mib=4096) for name in ("executor", "master", "registry", "worker")}
    hosts["worker"]["fleet_state"] = changes.pop("worker_state", "present")
    for name, values in changes.items():
        hosts[name].update(values)  # type: ignore[attr-defined,call-overload]
    database = folder / "database"
    database.mkdir(exist_ok=True)
    children = {
        "executor": {"hosts": {"executor": hosts["executor"]}},
        "cluster_master": {"hosts": {"master": hosts["master"]}},
        "docker_registry": {"hosts": {"registry": hosts["registry"]}},
        "cluster_nodes": {"children": {"normal": {"hosts": {"worker": hosts["worker"]}}, "heavyweight": {}}},
    }
    return {"children": children, "site_database_dir": str(database), "site_name": "t", "site_domain": "t.internal"}


def validate(folder: Path, *more: str) -> Outcome:
    return run(["ansible-playbook", "-i", "hosts.yml", "omtd.workflow.validate", *PASSWORD, *more], folder)


@pytest.fixture
def whole(site: Path) -> Path:
    secrets(site)
    write_hosts(site, **whole_site(site))
    return site


def test_a_site_in_order_passes_and_nothing_is_changed(whole: Path) -> None:
    outcome = validate(whole)
    assert outcome.findings == [], outcome.text
    assert "Check the site as a whole" in outcome.text
    assert outcome.changed == 0


def test_all_faults_are_told_at_once_and_no_secret_is_shown(whole: Path) -> None:
    layout = whole_site(whole, executor={"fleet_ram_mib": 512}, worker_state="absent")
    layout["children"].pop("docker_registry")
    write_hosts(whole, **layout, cluster_scheduler="pbs", site_shared_storage="floppy")
    weak = {"vault_slurm_munge_key": "hunter2hunter2", "vault_executor_admin_password": ""}
    outcome = validate(whole, "-e", dump(weak))
    assert outcome.code != 0
    found = "\n".join(outcome.findings)
    for part in (
        "fleet_state: absent: 1 of 3 machines are not made yet (worker); run provision first",
        "cluster_scheduler: 'pbs': unknown scheduler; write slurm",
        "site_shared_storage: 'floppy'",
        "docker_registry: no host: needed by",
        "vault_slurm_munge_key: (not shown): has 14 characters, fewer than 16",
        "vault_executor_admin_password: missing",
        "memory: 512 MiB: executor (executor) needs",
    ):
        assert part in found, outcome.text
    assert "hunter2" not in outcome.text


def test_a_site_without_machines_is_told_to_provision_first(site: Path) -> None:
    secrets(site)
    layout = whole_site(site)
    for group in ("executor", "cluster_master", "docker_registry"):
        for values in layout["children"][group]["hosts"].values():
            values.update(fleet_state="absent", ansible_connection="ssh", ansible_host="x.absent.invalid")
    layout["children"]["cluster_nodes"]["children"]["normal"]["hosts"]["worker"]["fleet_state"] = "absent"
    write_hosts(site, **layout)
    outcome = validate(site)
    assert outcome.code != 0
    assert "4 of 4 machines are not made yet" in outcome.text
    assert "run provision first" in outcome.text
    assert "UNREACHABLE" not in outcome.text


def test_a_host_that_does_not_answer_is_one_finding_among_the_others(whole: Path) -> None:
    unreachable = {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": 9,
        "ansible_ssh_common_args": "-o ConnectTimeout=3",
    }
    write_hosts(whole, **whole_site(whole, worker=unreachable), site_job_uid=3)
    outcome = validate(whole)
    assert outcome.code != 0
    found = "\n".join(outcome.findings)
    assert "worker: unreachable" in found
    assert "site_job_uid: 3" in found


def test_a_missing_shared_directory_is_found_before_jobs_lose_their_data(whole: Path) -> None:
    layout = {**whole_site(whole), "site_database_dir": "/nonexistent/database"}
    write_hosts(whole, **layout)
    outcome = validate(whole)
    assert outcome.code != 0
    assert "site_database_dir: /nonexistent/database: executor, worker" in "\n".join(outcome.findings)


def test_limit_checks_the_whole_site_and_looks_at_the_limited_hosts_only(whole: Path) -> None:
    outcome = validate(whole, "--limit", "worker")
    assert outcome.findings == [], outcome.text
    assert "executor" not in outcome.stdout.split("PLAY RECAP")[1]
    broken = whole_site(whole)
    broken["children"].pop("cluster_master")
    write_hosts(whole, **broken)
    outcome = validate(whole, "--limit", "worker")
    assert outcome.code != 0
    assert "cluster_master: no host" in outcome.text
