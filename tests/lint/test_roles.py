"""Every role keeps the promises of the house: its files, and argument specs that name what defaults name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

COLLECTION = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (COLLECTION / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted((COLLECTION / "playbooks").glob("*.yml"))


def specs(role: Path) -> dict:
    """Give the options of a role's main entry point: {variable: spec}."""
    document = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    return document["argument_specs"]["main"].get("options", {})


def defaults(role: Path) -> dict:
    """Give a role's defaults: {variable: value}, {} where it has none."""
    path = role / "defaults" / "main.yml"
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def names_read(path: Path) -> set[str]:
    """Give the names that stand in a file's Jinja expressions and statements."""
    expressions = re.findall(r"{[{%].*?[%}]}", path.read_text(), re.DOTALL)
    return {name for expression in expressions for name in re.findall(r"\b[a-z][a-z0-9_]+\b", expression)}


def test_there_are_roles_to_look_at() -> None:
    assert ROLES


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_has_what_every_role_has(role: Path) -> None:
    wanted = ["README.md", "meta/argument_specs.yml", "meta/main.yml", "tasks/main.yml"]
    assert [name for name in wanted if not (role / name).exists()] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_has_a_scenario(role: Path) -> None:
    assert (COLLECTION / "molecule" / role.name / "molecule.yml").exists()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_argument_specs_and_defaults_name_the_same_variables(role: Path) -> None:
    optional = {name for name, spec in specs(role).items() if not spec.get("required")}
    assert optional == set(defaults(role)), "optional variables have a default, and every default has a spec"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_is_described_and_typed(role: Path) -> None:
    bare = [name for name, spec in specs(role).items() if not spec.get("description") or not spec.get("type")]
    assert bare == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_variables_carry_the_roles_name(role: Path) -> None:
    strangers = [name for name in specs(role) if not name.startswith(f"{role.name}_")]
    assert strangers == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_reads_no_other_roles_variables(role: Path) -> None:
    """Other roles' variables may be set (``vars:`` of an include), never read."""
    others = {name for other in ROLES if other != role for name in specs(other) if not name.startswith(f"{role.name}_")}
    files = [path for room in ("tasks", "handlers", "defaults", "templates") for path in role.glob(f"{room}/**/*")]
    found = [f"{path.name}: {name}" for path in files if path.is_file() for name in sorted(names_read(path) & others)]
    assert found == []


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda playbook: playbook.name)
def test_playbooks_are_documented(playbook: Path) -> None:
    pages = "\n".join(path.read_text() for path in [COLLECTION / "README.md", *(COLLECTION / "docs").glob("*.md")])
    assert playbook.stem in pages


def test_no_file_names_a_package_host() -> None:
    hosts = re.compile(r"pypi\.(org|io)|pythonhosted\.|deb\.debian\.|registry\.npm")
    named = [
        str(path.relative_to(COLLECTION))
        for path in COLLECTION.rglob("*")
        if path.is_file()
        and not {".git", ".venv", ".build", ".fleet", "__pycache__"} & set(path.parts[len(COLLECTION.parts) :])
        and path.suffix in {".yml", ".py", ".md", ".j2", ".txt", ".sh", ".toml", ".cfg", ""}
        and hosts.search(path.read_text(errors="replace"))
    ]
    assert named == []
