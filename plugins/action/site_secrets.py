# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a site's vault on the controller. An action plugin, because only the controller has the vault password."""

from __future__ import annotations

import os
import secrets
import tempfile
import typing as t

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.parsing.vault import FileVaultSecret, VaultLib, is_encrypted, match_encrypt_secret
from ansible.plugins.action import ActionBase
from ansible_collections.omtd.workflow.plugins.module_utils.site import secrets as site_secrets

PASSWORD_FILE = ".vault-password"
VAULT_FILE = os.path.join("group_vars", "all", "vault.yml")

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
        dummy, args = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        folder = os.path.abspath(args["site_folder"])
        table = args["table"]
        given = {name: value for name, value in args["given"].items() if value not in (None, "")}
        check_mode = bool(self._task.check_mode)

        faults = site_secrets.check_table(table)
        faults += [f"given.{name}: names of secrets begin with vault_" for name in given if not name.startswith("vault_")]
        if not os.path.isdir(folder):
            faults.append(f"site_folder: {folder}: no such folder; make one with omtd.workflow.new_site")
        if faults:
            raise AnsibleActionFail("\n".join(faults))

        path = os.path.join(folder, VAULT_FILE)
        changed = [] if check_mode else self._tighten(path, os.path.join(folder, PASSWORD_FILE))
        text, secret, vault_id = self._read(path)
        present = self._parse(path, text)
        additions = [
            (row["name"], _plain(given.get(row["name"]) or site_secrets.make_secret(row["kind"], row["length"])), row["purpose"])
            for row in site_secrets.missing_rows(table, present)
        ]
        known = {row["name"] for row in table}
        additions += [
            (name, _plain(value), "Carried over from the old site.")
            for name, value in given.items()
            if name not in known and name not in present
        ]

        password_file = ""
        if additions and secret is None:
            vault_id, secret, password_file, made = self._password(folder, check_mode)
            changed += [password_file] if made else []
        if additions:
            if not check_mode:
                vault = VaultLib([(vault_id, secret)])
                plain = self._without_empty(text, {name for name, dummy_value, dummy_purpose in additions})
                encrypted = vault.encrypt(site_secrets.grow(plain, additions), secret, None if vault_id == "default" else vault_id)
                write_private(path, encrypted)
            changed.append(path)

        added = [name for name, dummy_value, dummy_purpose in additions]
        result.update(
            changed=bool(changed),
            path=path,
            added=added,
            kept=len([row for row in table if row["name"] not in added]),
            password_file=password_file,
            msg=f"{len(added)} secrets added to {path}" if added else f"{path} has every secret",
        )
        if self._task.diff and changed:
            result["diff"] = [
                {
                    "before_header": path,
                    "after_header": path,
                    "before": "",
                    "after": "".join(f"{name}: (a new secret)\n" for name in added),
                }
            ]
        return result

    def _read(self, path: str) -> tuple[str, t.Any, str]:
        """The vault's plain text, with the secret and vault id that opened it; ('', None, 'default') without a file."""
        if not os.path.exists(path):
            return "", None, "default"
        with open(path, "rb") as stream:
            content = stream.read()
        if not content.strip():
            return "", None, "default"
        if not is_encrypted(content):
            raise AnsibleActionFail(f"{path}: is not encrypted; encrypt it first: ansible-vault encrypt {path}")
        own = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(path))), PASSWORD_FILE)
        known = list(self._loader._vault.secrets or [])
        if os.path.exists(own):
            known.append(("default", self._file_secret(own)))
        if not known:
            raise AnsibleActionFail(
                f"{path}: no vault password to open it with; give --vault-password-file, or put the password into {own} (mode 0600)"
            )
        try:
            plain, vault_id, secret = VaultLib(known).decrypt_and_get_vault_id(content)
        except AnsibleError as exc:
            raise AnsibleActionFail(f"{path}: none of the vault passwords opens it; give the right --vault-password-file") from exc
        return to_text(plain), secret, to_text(vault_id or "default")

    @staticmethod
    def _parse(path: str, text: str) -> dict[str, t.Any]:
        try:
            present = yaml.safe_load(text) or {}
        except yaml.YAMLError:
            # The parser's message quotes the text, which is secret: `from None`.
            raise AnsibleActionFail(f"{path}: is not YAML once decrypted; repair it: ansible-vault edit {path}") from None
        if not isinstance(present, dict):
            raise AnsibleActionFail(f"{path}: is not a mapping of names to secrets; repair it: ansible-vault edit {path}")
        return present

    @staticmethod
    def _without_empty(text: str, names: set[str]) -> str:
        """The text without the keys that have no value and now get one: a key may not stand twice."""
        return "\n".join(line for line in text.split("\n") if line.split(":", 1)[0].strip() not in names)

    def _password(self, folder: str, check_mode: bool) -> tuple[str, t.Any, str, bool]:
        """(vault id, secret, file, made?) of the password to encrypt a new vault with."""
        own = os.path.join(folder, PASSWORD_FILE)
        if os.path.exists(own):
            return "default", self._file_secret(own), own, False
        known = self._loader._vault.secrets
        if known:
            vault_id, secret = match_encrypt_secret(known)
            return to_text(vault_id), secret, "", False
        if check_mode:
            return "default", None, own, True
        write_private(own, to_bytes(secrets.token_urlsafe(48) + "\n"))
        ignore_in_git(folder, PASSWORD_FILE)
        return "default", self._file_secret(own), own, True

    def _file_secret(self, path: str) -> FileVaultSecret:
        secret = FileVaultSecret(filename=path, loader=self._loader)
        try:
            secret.load()
        except AnsibleError as exc:
            raise AnsibleActionFail(f"{path}: cannot be used as a vault password: {to_text(exc)}") from exc
        return secret

    @staticmethod
    def _tighten(*paths: str) -> list[str]:
        """Takes group's and others' access away from secret files that have it; the files it changed."""
        loose = [path for path in paths if os.path.isfile(path) and os.stat(path).st_mode & 0o077]
        for path in loose:
            os.chmod(path, 0o600)
        return loose


def _plain(value: t.Any) -> t.Any:
    """The value without the tags that Ansible hangs on texts, so that JSON can have it."""
    if isinstance(value, dict):
        return {to_text(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (bool, int, float)) else str(to_text(value))


def write_private(path: str, content: bytes) -> None:
    """Replaces a file in one step; nobody but the owner can read it at any moment."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".omtd-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def ignore_in_git(folder: str, name: str) -> None:
    """Adds ``/name`` to the folder's .gitignore unless a line has it."""
    path = os.path.join(folder, ".gitignore")
    lines = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
    if f"/{name}" in lines or name in lines:
        return
    with open(path, "w", encoding="utf-8") as stream:
        stream.write("\n".join([*lines, f"/{name}"]) + "\n")
