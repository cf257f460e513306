"""How secrets are made and judged."""

from __future__ import annotations

import base64

import pytest
import yaml
from ansible_collections.omtd.workflow.plugins.module_utils.site import secrets
from hypothesis import given
from hypothesis import strategies as st
from site_runs import table


def test_the_table_of_the_collection_is_right() -> None:
    assert secrets.check_table(table()) == []


def test_a_table_with_faults_names_each_of_them() -> None:
    rows = [
        {"name": "registry", "kind": "password", "length": 32},
        {"name": "vault_a", "kind": "word", "length": 32},
        {"name": "vault_b", "kind": "hex", "length": 8},
        {"name": "vault_b", "kind": "hex", "length": 32},
    ]
    faults = "\n".join(secrets.check_table(rows))
    for part in ("secrets[0].name", "secrets[1].kind", "secrets[2].length", "secrets[3].name"):
        assert part in faults


@pytest.mark.parametrize("length", [16, 17, 32, 64])
def test_a_password_has_letters_of_both_cases_and_digits_and_nothing_that_wants_quoting(length: int) -> None:
    word = secrets.make_secret("password", length)
    assert len(word) == length
    assert word.isalnum()
    assert word.isascii()
    assert any(c.islower() for c in word)
    assert any(c.isupper() for c in word)
    assert any(c.isdigit() for c in word)


@pytest.mark.parametrize("length", [16, 17, 48])
def test_hex_has_the_length_that_was_asked_for(length: int) -> None:
    word = secrets.make_secret("hex", length)
    assert len(word) == length
    int(word, 16)


def test_base64_holds_as_many_bytes_as_were_asked_for() -> None:
    assert len(base64.b64decode(secrets.make_secret("base64", 128))) == 128


@pytest.mark.parametrize("kind", secrets.KINDS)
def test_what_is_made_is_never_called_weak(kind: str) -> None:
    for _round in range(300):
        assert secrets.weakness(secrets.make_secret(kind, 16)) == ""


@pytest.mark.parametrize(
    "value",
    [
        "",
        "   ",
        None,
        42,
        "openminted",
        "OpenMinted",
        "changeme",
        "short-but-odd",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "password12345678",
        "openminted-galaxy-2018",
        "secret_secret_secret",
        "0123456789012345",
        "this-is-not-a-real-secret",
    ],
)
def test_a_weak_secret_is_refused_without_being_shown(value: object) -> None:
    reason = secrets.weakness(value)
    assert reason
    if isinstance(value, str) and len(value.strip()) > 5:
        assert value not in reason


@given(
    st.dictionaries(
        st.from_regex(r"vault_[a-z_]{1,10}", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1),
        min_size=1,
    )
)
def test_whatever_a_secret_contains_the_file_stays_readable(values: dict[str, str]) -> None:
    text = secrets.grow("", [(name, value, "a\npurpose: with breaks") for name, value in values.items()])
    assert yaml.safe_load(text) == values


def test_growing_keeps_what_was_there_to_the_letter() -> None:
    before = "---\n# mine\nvault_a: 'one'   # odd  spacing\n"
    after = secrets.grow(before, [("vault_b", "two", "")])
    assert after.startswith(before)
    assert yaml.safe_load(after) == {"vault_a": "one", "vault_b": "two"}


def test_a_key_without_a_value_counts_as_missing() -> None:
    rows = [{"name": "vault_a"}, {"name": "vault_b"}, {"name": "vault_c"}]
    missing = secrets.missing_rows(rows, {"vault_a": "x", "vault_b": ""})
    assert [row["name"] for row in missing] == ["vault_b", "vault_c"]
