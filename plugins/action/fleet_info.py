# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what a site's cloud has, on the controller."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.omtd.workflow.plugins.action.fleet import describe_plan
from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import apply, plan, spec


class ActionModule(ActionBase):
    """Observes and plans."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _dummy, args = self.validate_argument_spec(argument_spec={"fleet_file": {"type": "path", "required": True}})
        try:
            fleet = spec.load(self._loader.path_dwim(args["fleet_file"]))
            made, observed = apply.show(fleet, base.connect(fleet), plan.Options())
        except (spec.FleetFileError, base.CloudError) as exc:
            return {**result, "failed": True, "msg": str(exc)}
        there = plan.observed_hosts(fleet, observed)
        machines = [describe_machine(host.name, there.get(host.name)) for host in fleet.hosts()]
        return {
            **result,
            "changed": False,
            "msg": plan.summary(made),
            "site": fleet.site,
            "machines": machines,
            "problems": list(made.problems),
            **describe_plan(made),
        }


def describe_machine(name: str, machine: base.Machine | None) -> dict[str, t.Any]:
    """A host and its machine, if there is one, as plain data."""
    if machine is None:
        return {"name": name, "state": "absent", "ready": False, "private_address": "", "public_address": ""}
    return {
        "name": name,
        "id": machine.id,
        "state": machine.state,
        "ready": machine.ready,
        "private_address": machine.private_address,
        "public_address": machine.public_address,
    }
