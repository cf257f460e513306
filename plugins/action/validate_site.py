# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks a whole site on the controller, from its inventory, its secrets, its facts and the roles' argument specs."""

from __future__ import annotations

import typing as t
import zoneinfo
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.common.text.converters import to_text
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.omtd.workflow.plugins.module_utils.site import checks

UNSET = object()
FACTS_RESULT = "__validate_facts"
STORAGE_RESULT = "__validate_storage"
TABLES = frozenset(
    ("site_roles", "site_secrets", "site_group_needs", "site_forbidden_combinations", "site_memory_needs")
)

ARGUMENT_SPEC = {
    "roles": {"type": "dict", "required": True},
    "secrets": {"type": "list", "elements": "dict", "default": [], "no_log": False},
    "needs": {"type": "dict", "default": {}},
    "forbidden": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "groups": {"type": "list", "elements": "str", "required": True},
            "why": {"type": "str", "required": True},
        },
    },
    "memory": {"type": "dict", "default": {}},
}


class Role(t.NamedTuple):
    """What a role says of itself."""

    name: str
    options: dict[str, dict[str, t.Any]]
    defaults: dict[str, t.Any]


class ActionModule(ActionBase):
    """Collects every finding about the site; fails once, with all of them."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _dummy, args = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        roles = self._roles(args["roles"])

        variables = self._variables(task_vars)
        hosts = [_host(name, values) for name, values in variables.items()]
        site = checks.Site(
            values=_site_values(task_vars, self._templar),
            hosts=hosts,
            secrets=args["secrets"],
            needs=args["needs"],
            forbidden=args["forbidden"],
            memory={group: int(mib) for group, mib in args["memory"].items()},
            installable={group for group, names in args["roles"].items() if any(name in roles for name in names)},
            roles=roles,
            time_zones=zoneinfo.available_timezones(),
        )
        found = checks.check(site)
        lines, arguments = self._arguments(args["roles"], roles, hosts, variables, task_vars)
        found.errors.extend(lines)

        result.update(
            changed=False,
            checked={"hosts": len(hosts), "roles": len(roles), "arguments": arguments},
        )
        if found.warnings:
            result["warnings"] = found.warnings
        if found.errors:
            result["failed"] = True
            count = len(found.errors)
            intro = f"The site is not ready: {count} thing{'s' if count > 1 else ''} to put right. Nothing was changed."
            result["msg"] = "\n".join([intro, *(f"  - {line}" for line in found.errors)])
        else:
            result["msg"] = f"The site is in order: {len(hosts)} hosts, {len(roles)} roles, {arguments} role arguments."
        return result

    def _variables(self, task_vars: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
        """{host: its variables, not templated yet}."""
        hostvars = task_vars["hostvars"]
        return {name: hostvars.raw_get(name) for name in task_vars["groups"].get("all", [])}

    def _roles(self, table: dict[str, list[str]]) -> dict[str, Role]:
        """The roles of the table that this collection has."""
        folder = Path(__file__).resolve().parents[2] / "roles"
        names = {name for group in table.values() for name in group}
        roles = {}
        for name in sorted(names):
            specs = folder / name / "meta" / "argument_specs.yml"
            if not specs.is_file():
                continue
            content = load(self._loader, specs)
            options = ((content.get("argument_specs") or {}).get("main") or {}).get("options") or {}
            defaults: dict[str, t.Any] = {}
            for part in ("defaults", "vars"):
                path = folder / name / part / "main.yml"
                if path.is_file():
                    defaults.update(load(self._loader, path))
            roles[name] = Role(name, options, defaults)
        return roles

    def _arguments(
        self,
        table: dict[str, list[str]],
        roles: dict[str, Role],
        hosts: list[checks.Host],
        variables: dict[str, dict[str, t.Any]],
        task_vars: dict[str, t.Any],
    ) -> tuple[list[str], int]:
        """The findings of all argument specs, and how many arguments were looked at."""
        messages: dict[tuple[str, str], list[str]] = {}
        outcomes: dict[t.Any, list[str]] = {}
        arguments = 0
        for host in hosts:
            wanted = dict.fromkeys(
                name for group, names in table.items() if group == "all" or group in host.groups for name in names
            )
            for name in wanted:
                role = roles.get(name)
                if role is None:
                    continue
                own = variables[host.name]
                # Hosts of one machine entry differ in address and name only: one speaks for all that set the same.
                key = (
                    name,
                    own.get("fleet_machine", host.name),
                    bool(host.facts),
                    repr([own[option] for option in role.options if option in own]),
                )
                if key not in outcomes:
                    outcomes[key] = self._judge(role, host, own, task_vars)
                    arguments += len(role.options)
                for message in outcomes[key]:
                    messages.setdefault((name, message), []).append(host.name)
        return [f"{message} (role {role} on {checks.names(on)})" for (role, message), on in messages.items()], arguments

    def _judge(self, role: Role, host: checks.Host, own: dict[str, t.Any], task_vars: dict[str, t.Any]) -> list[str]:
        """What the argument spec of one role says about one host."""
        scope = {**role.defaults, **own, "hostvars": task_vars["hostvars"]}
        templar = Templar(loader=self._loader, variables=scope)
        findings, values, options = [], {}, {}
        for name, option in role.options.items():
            raw = scope.get(name, UNSET)
            if raw is not UNSET:
                try:
                    values[name] = templar.template(raw)
                except AnsibleError as exc:
                    # What a host's facts decide is left to the role when there are no facts yet.
                    if host.facts or "ansible_facts" not in to_text(raw):
                        reason = "(not shown)" if option.get("no_log") else first_line(exc)
                        findings.append(f"{name}: cannot be worked out: {reason}; set it in group_vars or host_vars")
                    continue
            options[name] = option
        checked = ArgumentSpecValidator(options).validate(values)
        for error in checked.error_messages:
            text = remove_values(to_text(error), checked._no_log_values)
            findings.append(f"{text.rstrip('.')}; see roles/{role.name}/README.md")
        return findings


def _host(name: str, values: dict[str, t.Any]) -> checks.Host:
    """A host as the checks see it."""
    facts = values.get("ansible_facts") or {}
    gathered = values.get(FACTS_RESULT) or {}
    storage = values.get(STORAGE_RESULT) or {}
    return checks.Host(
        name=name,
        groups=frozenset(values.get("group_names") or ()),
        variables=values,
        facts=facts if facts.get("distribution") else {},
        unreachable=first_line(gathered.get("msg") or "no answer") if gathered.get("unreachable") else "",
        storage=storage.get("stat"),
    )


def _site_values(task_vars: dict[str, t.Any], templar: Templar) -> dict[str, t.Any]:
    """The site-wide values, templated. A value that cannot be templated counts as not there."""
    values = {}
    for name, raw in task_vars.items():
        if name == "cluster_scheduler" or (name.startswith(("site_", "vault_")) and name not in TABLES):
            try:
                values[name] = templar.template(raw)
            except AnsibleError:
                continue
    return values


def first_line(reason: object) -> str:
    """The first line of a message, short enough for a list."""
    lines = to_text(reason).strip().splitlines()
    return lines[0].strip()[:300] if lines else ""


def load(loader: DataLoader, path: Path) -> dict[str, t.Any]:
    """A YAML mapping of the collection. Its templates are ours, so they are trusted (ansible-core 2.19 and
    later ask)."""
    try:
        content = loader.load_from_file(str(path), trusted_as_template=True)
    except TypeError:
        content = loader.load_from_file(str(path))
    if not isinstance(content or {}, dict):
        raise AnsibleActionFail(f"{path}: is not a mapping")
    return content or {}
