# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site's secrets: how they are made, how they are judged, how the vault's text grows. No I/O.

The table that says which secrets a site has is playbooks/vars/site_secrets.yml; a row is
``{name, kind, length, purpose, groups}``.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import string
import typing as t

SHORTEST = 16
"""Characters. Everything shorter is refused, whoever wrote it."""

FEWEST_DIFFERENT = 6

_SURROGATES = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")

KINDS = ("password", "hex", "base64")

PUBLISHED = frozenset(
    [
        "openminted",
        "openminted1234",
        "galaxy",
        "mesos",
        "marathon",
        "chronos",
        "principal",
        "registry",
        "omtd",
        "slurm",
        "munge",
        "password",
        "passw0rd",
        "secret",
        "secrets",
        "changeme",
        "change_me",
        "changeit",
        "change-me",
        "changethis",
        "default",
        "your_password",
        "admin",
        "administrator",
        "root",
        "test",
        "example",
        "placeholder",
        "letmein",
        "letmein123",
        "welcome",
        "qwerty",
        "qwertyuiop",
        "qwertyuiopasdfgh",
        "none",
        "null",
        "todo",
        "fixme",
        "replaceme",
        "dummy",
        "vagrant",
        "user",
        "guest",
        "demo",
        "this-is-not-a-real-secret",
        "set-a-random-id",
        "correcthorsebatterystaple",
        "correct",
        "horse",
        "battery",
        "staple",
        "abcdefghijklmnop",
        "abcdefghijklmnopqrstuvwxyz",
    ]
)
"""Known weak words, in lower case. A secret that is only such words, digits and punctuation is weak too."""

WORDS = frozenset("".join(c for c in word if c.isalpha()) for word in PUBLISHED)


class Row(t.TypedDict, total=False):
    """One line of the table of secrets."""

    name: str
    kind: str
    length: int
    purpose: str
    groups: list[str]


def check_table(table: t.Sequence[Row]) -> list[str]:
    """What is wrong with a table of secrets, as one message a fault; empty when it is right."""
    faults = []
    seen: set[str] = set()
    for number, row in enumerate(table):
        name = row.get("name", "")
        where = f"secrets[{number}]"
        if not name.isidentifier() or not name.startswith("vault_"):
            faults.append(f"{where}.name: {name!r}: names are variable names that begin with vault_")
        if name in seen:
            faults.append(f"{where}.name: {name}: stands twice in the table; remove one line")
        seen.add(name)
        if row.get("kind") not in KINDS:
            faults.append(f"{where}.kind: {row.get('kind')!r}: write one of {', '.join(KINDS)}")
        length = row.get("length", 0)
        if not isinstance(length, int) or length < SHORTEST:
            faults.append(f"{where}.length: {length!r}: write {SHORTEST} or more")
    return faults


def make_secret(kind: str, length: int) -> str:
    """A new random secret.

    ``password``: ``length`` letters and digits (nothing that a configuration file, URL or shell would have to quote);
    ``hex``: ``length`` hexadecimal digits; ``base64``: ``length`` random bytes in base64.
    """
    if kind == "hex":
        return secrets.token_hex((length + 1) // 2)[:length]
    if kind == "base64":
        return base64.b64encode(secrets.token_bytes(length)).decode()
    alphabet = string.ascii_letters + string.digits
    while True:
        word = "".join(secrets.choice(alphabet) for _unused in range(length))
        # Some services insist on each class; with 32 characters the first try nearly always has them.
        if any(c.islower() for c in word) and any(c.isupper() for c in word) and any(c.isdigit() for c in word):
            return word


def weakness(value: object) -> str:
    """Why a secret may not be used, as the rule it breaks; '' when it is good enough. Never contains the value."""
    if not isinstance(value, str):
        return f"is {type(value).__name__}, not text"
    lower = value.strip().lower()
    rules = (
        (not lower, "is empty"),
        (lower in PUBLISHED, "is a published default that anybody tries first"),
        (len(value) < SHORTEST, f"has {len(value)} characters, fewer than {SHORTEST}"),
        (len(set(value)) < FEWEST_DIFFERENT, f"has only {len(set(value))} different characters"),
        (_only_known_words(lower), "is made of well-known words and digits"),
    )
    return next((rule for broken, rule in rules if broken), "")


def _only_known_words(lower: str) -> bool:
    """True when ``lower`` is known words one after the other, digits and punctuation apart."""
    rest = "".join(c for c in lower if c.isalpha())
    if not rest:
        return lower.isdigit() and lower in "01234567890123456789012345678901234567890"
    ends = {0}
    for end in range(1, len(rest) + 1):
        if any(end - len(word) in ends and rest.endswith(word, 0, end) for word in WORDS):
            ends.add(end)
    return len(rest) in ends


def missing_rows(table: t.Sequence[Row], present: t.Mapping[str, object]) -> list[Row]:
    """The rows of the table that the vault has no key for. A key with an empty value counts as missing."""
    return [row for row in table if present.get(row["name"]) in (None, "")]


HEADER = (
    "# The secrets of this site: made by omtd.workflow.secrets, encrypted with ansible-vault.\n"
    "# Look: ansible-vault view <this file>. The playbook adds what is missing and never changes what is here.\n"
)


def grow(text: str, additions: t.Sequence[tuple[str, t.Any, str]]) -> str:
    """The vault's text with ``(name, value, purpose)`` added at the end.

    What was there stays as it was, comments included.
    """
    lines = [text.rstrip("\n") if text.strip() else "---\n" + HEADER.rstrip("\n")]
    for name, value, purpose in additions:
        if purpose:
            lines.append("# " + " ".join(purpose.split()))
        lines.append(f"{name}: {as_yaml(value)}")
    return "\n".join(lines) + "\n"


def as_yaml(value: t.Any) -> str:
    """A value in one line of YAML. JSON is YAML but for two things: surrogate pairs, and DEL unescaped."""
    text = json.dumps(value).replace("\x7f", "\\x7f")
    return _SURROGATES.sub(_one_code_point, text)


def _one_code_point(pair: re.Match[str]) -> str:
    return f"\\U{ord(json.loads(chr(34) + pair[0] + chr(34))):08x}"
