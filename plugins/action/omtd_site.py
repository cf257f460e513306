# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an OMTD hosts file and its group_vars on the controller."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.text.converters import to_text
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.omtd.workflow.plugins.module_utils.site import omtd

ARGUMENT_SPEC = {
    "hosts_file": {"type": "path", "required": True},
    "group_vars": {"type": "path"},
    "site": {"type": "str", "default": ""},
}


class ActionModule(ActionBase):
    """Turns the old files into the values that the playbook import_omtd writes."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _dummy, args = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        hosts_file = Path(args["hosts_file"]).resolve()
        if not hosts_file.is_file():
            raise AnsibleActionFail(
                f"omtd_hosts: {hosts_file}: no such file; give the OMTD hosts file with -e omtd_hosts=…"
            )
        folder = Path(args["group_vars"] or hosts_file.parent / "group_vars").resolve()
        if args["group_vars"] and not folder.is_dir():
            raise AnsibleActionFail(
                f"omtd_group_vars: {folder}: no such folder; give the one with the OMTD group variables"
            )

        hosts, variables = self._inventory(hosts_file)
        for group, values in self._group_vars(folder).items():
            variables.setdefault(group, {}).update(values)
        try:
            migration = omtd.migrate(hosts, self._template(variables), args["site"])
        except ValueError as exc:
            raise AnsibleActionFail(f"{hosts_file}: {exc}") from exc
        result.update(dataclasses.asdict(migration), changed=False)
        return result

    def _inventory(self, path: Path) -> tuple[list[omtd.OldHost], dict[str, dict[str, t.Any]]]:
        """The hosts of the file with their own variables, and the variables that it gives to groups."""
        manager = InventoryManager(loader=self._loader, sources=[str(path)], parse=False)
        manager.parse_source(str(path))
        groups = {name: dict(group.vars) for name, group in manager.groups.items() if group.vars}
        hosts = []
        for host in manager.hosts.values():
            member = [group.name for group in host.groups]
            # Variables of [all:vars] that say how a host is reached are as good as the host's own.
            connection = {name: value for name, value in groups.get("all", {}).items() if name in omtd.CONNECTION}
            for group in member:
                connection.update(
                    (name, value) for name, value in groups.get(group, {}).items() if name in omtd.CONNECTION
                )
            hosts.append(omtd.OldHost(host.name, tuple(member), {**connection, **_own(host.vars)}))
        return hosts, groups

    def _group_vars(self, folder: Path) -> dict[str, dict[str, t.Any]]:
        """{group: variables} of `group_vars/<group>`, `<group>.yml` and `<group>/*`."""
        variables: dict[str, dict[str, t.Any]] = {}
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        for path in files:
            group = path.relative_to(folder).parts[0].removesuffix(".yml").removesuffix(".yaml").removesuffix(".json")
            try:
                content = load(self._loader, path)
            except AnsibleError as exc:
                raise AnsibleActionFail(f"{path}: cannot be read: {to_text(exc).splitlines()[0]}") from None
            if not isinstance(content or {}, dict):
                raise AnsibleActionFail(f"{path}: is no mapping of variables")
            variables.setdefault(group, {}).update(content or {})
        return variables

    def _template(self, variables: dict[str, dict[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
        """The same with templates worked out as far as the old variables alone allow."""
        scope: dict[str, t.Any] = {}
        for values in variables.values():
            scope.update(values)
        templar = Templar(loader=self._loader, variables=scope)
        done: dict[str, dict[str, t.Any]] = {}
        for group, values in variables.items():
            done[group] = {}
            for name, value in values.items():
                try:
                    done[group][name] = templar.template(value)
                except AnsibleError:
                    done[group][name] = to_text(value)
        return done


def _own(variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {name: value for name, value in variables.items() if name not in ("inventory_file", "inventory_dir")}


def load(loader: DataLoader, path: Path) -> t.Any:
    """A YAML file whose templates are the operator's own (ansible-core 2.19 and later ask)."""
    try:
        return loader.load_from_file(str(path), trusted_as_template=True)
    except TypeError:
        return loader.load_from_file(str(path))
