# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a site's vault on the controller. An action plugin, because only the controller has the vault password."""

from __future__ import annotations

import os
import secrets
import tempfile
import typing as t
from pathlib import Path

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.parsing.vault import FileVaultSecret, VaultLib, is_encrypted, match_encrypt_secret
from ansible.plugins.action import ActionBase
from ansible_collections.omtd.workflow.plugins.module_utils.site import secrets as site_secrets

PASSWORD_FILE = ".vault-password"  # noqa: S105 - the name of a file, not a password
VAULT_FILE = "group_vars/all/vault.yml"

ARGUMENT_SPEC = {
    "site_folder": {"type": "path", "required": True},
    "table": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": list(site_secrets.KINDS), "default": "password"},
            "length": {"type": "int", "default": 32},
            "purpose": {"type": "str", "default": ""},
            "groups": {"type": "list", "elements": "str", "default": []},
        },
        "no_log": False,
    },
    "given": {"type": "dict", "default": {}, "no_log": True},
}


class ActionModule(ActionBase):
    """Adds the missing secrets of a table to the vault of a site."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _dummy, args = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        folder = Path(args["site_folder"]).resolve()
        table = args["table"]
        given = {name: value for name, value in args["given"].items() if value not in (None, "")}
        check_mode = bool(self._task.check_mode)

        faults = site_secrets.check_table(table)
        faults += [f"given.{name}: names of secrets begin with vault_" for name in given if name[:6] != "vault_"]
        if not folder.is_dir():
            faults.append(f"site_folder: {folder}: no such folder; make one with omtd.workflow.new_site")
        if faults:
            raise AnsibleActionFail("\n".join(faults))

        path = folder / VAULT_FILE
        changed = [] if check_mode else self._tighten(path, folder / PASSWORD_FILE)
        text, secret, vault_id = self._read(path, folder / PASSWORD_FILE)
        present = self._parse(path, text)
        additions = []
        for row in site_secrets.missing_rows(table, present):
            value = given.get(row["name"]) or site_secrets.make_secret(row["kind"], row["length"])
            additions.append((row["name"], _plain(value), row["purpose"]))
        known = {row["name"] for row in table}
        additions += [
            (name, _plain(value), "Carried over from the old site.")
            for name, value in given.items()
            if name not in known and name not in present
        ]

        password_file: Path | None = None
        if additions and secret is None:
            vault_id, secret, password_file, made = self._password(folder, check_mode)
            changed += [password_file] if made and password_file else []
        if additions:
            if not check_mode:
                plain = site_secrets.grow(self._without_empty(text, {name for name, *_rest in additions}), additions)
                label = None if vault_id == "default" else vault_id
                write_private(path, VaultLib([(vault_id, secret)]).encrypt(plain, secret, label))
            changed.append(path)

        added = [name for name, *_rest in additions]
        result.update(
            changed=bool(changed),
            path=str(path),
            added=added,
            kept=len([row for row in table if row["name"] not in added]),
            password_file=str(password_file or ""),
            msg=f"{len(added)} secrets added to {path}" if added else f"{path} has every secret",
        )
        if self._task.diff and changed:
            result["diff"] = [
                {
                    "before_header": str(path),
                    "after_header": str(path),
                    "before": "",
                    "after": "".join(f"{name}: (a new secret)\n" for name in added),
                }
            ]
        return result

    def _read(self, path: Path, own: Path) -> tuple[str, t.Any, str]:
        """The vault's plain text, with the secret and vault id that opened it; ('', None, 'default') without a file."""
        if not path.exists():
            return "", None, "default"
        content = path.read_bytes()
        if not content.strip():
            return "", None, "default"
        if not is_encrypted(content):
            raise AnsibleActionFail(f"{path}: is not encrypted; encrypt it first: ansible-vault encrypt {path}")
        known = list(self._loader._vault.secrets or [])
        if own.exists():
            known.append(("default", self._file_secret(own)))
        if not known:
            raise AnsibleActionFail(
                f"{path}: no vault password to open it with; "
                f"give --vault-password-file, or put the password into {own} (mode 0600)"
            )
        try:
            plain, vault_id, secret = VaultLib(known).decrypt_and_get_vault_id(content)
        except AnsibleError as exc:
            raise AnsibleActionFail(
                f"{path}: none of the vault passwords opens it; give the right --vault-password-file"
            ) from exc
        return to_text(plain), secret, to_text(vault_id or "default")

    @staticmethod
    def _parse(path: Path, text: str) -> dict[str, t.Any]:
        try:
            present = yaml.safe_load(text) or {}
        except yaml.YAMLError:
            # The parser's message quotes the text, which is secret: `from None`.
            raise AnsibleActionFail(
                f"{path}: is no YAML once decrypted; repair it: ansible-vault edit {path}"
            ) from None
        if not isinstance(present, dict):
            raise AnsibleActionFail(f"{path}: is no mapping of names to secrets; repair it: ansible-vault edit {path}")
        return present

    @staticmethod
    def _without_empty(text: str, names: set[str]) -> str:
        """The text without the keys that have no value and now get one: a key may not stand twice."""
        return "\n".join(line for line in text.split("\n") if line.split(":", 1)[0].strip() not in names)

    def _password(self, folder: Path, check_mode: bool) -> tuple[str, t.Any, Path | None, bool]:
        """(vault id, secret, file, made?) of the password to encrypt a new vault with."""
        own = folder / PASSWORD_FILE
        if own.exists():
            return "default", self._file_secret(own), own, False
        known = self._loader._vault.secrets
        if known:
            vault_id, secret = match_encrypt_secret(known)
            return to_text(vault_id), secret, None, False
        if check_mode:
            return "default", None, own, True
        write_private(own, to_bytes(secrets.token_urlsafe(48) + "\n"))
        ignore_in_git(folder, PASSWORD_FILE)
        return "default", self._file_secret(own), own, True

    def _file_secret(self, path: Path) -> FileVaultSecret:
        secret = FileVaultSecret(filename=str(path), loader=self._loader)
        try:
            secret.load()
        except AnsibleError as exc:
            raise AnsibleActionFail(f"{path}: cannot be used as a vault password: {to_text(exc)}") from exc
        return secret

    @staticmethod
    def _tighten(*paths: Path) -> list[Path]:
        """Takes group's and others' access away from secret files that have it; the files it changed."""
        loose = [path for path in paths if path.is_file() and path.stat().st_mode & 0o077]
        for path in loose:
            path.chmod(0o600)
        return loose


def _plain(value: t.Any) -> t.Any:
    """The value without the tags that Ansible hangs on texts, so that JSON can have it."""
    if isinstance(value, dict):
        return {to_text(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (bool, int, float)) else str(to_text(value))


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file in one step; nobody but the owner can read it at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".omtd-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def ignore_in_git(folder: Path, name: str) -> None:
    """Adds ``/name`` to the folder's .gitignore unless a line has it."""
    path = folder / ".gitignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if f"/{name}" in lines or name in lines:
        return
    path.write_text("\n".join([*lines, f"/{name}"]) + "\n", encoding="utf-8")
