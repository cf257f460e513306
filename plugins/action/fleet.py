# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the machines of a site, on the controller, and tells how far it is."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import apply, plan, spec

display = Display()

ARGUMENT_SPEC = {
    "fleet_file": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "prune": {"type": "bool", "default": False},
    "replace": {"type": "list", "elements": "str", "default": []},
    "confirm": {"type": "str", "default": ""},
    "delete_kept_volumes": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """Plans, shows the plan, carries it out."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _dummy, args = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        options = plan.Options(
            state=args["state"],
            prune=args["prune"],
            replace=tuple(args["replace"]),
            confirm=args["confirm"],
            delete_kept_volumes=args["delete_kept_volumes"],
        )
        try:
            fleet = spec.load(self._loader.path_dwim(args["fleet_file"]))
            cloud = base.connect(fleet)
            if self._task.check_mode:
                made, _observed = apply.show(fleet, cloud, options)
                self._show(made)
                outcome = apply.Outcome(made, made.actions)
                if made.problems:
                    raise plan.PlanError(made.problems)
            else:
                outcome = apply.converge(fleet, cloud, options, self._progress, self._show_for_diff)
        except (spec.FleetFileError, plan.PlanError, base.CloudError) as exc:
            return {**result, "failed": True, "msg": str(exc)}
        return {**result, **describe(outcome)}

    @staticmethod
    def _show(made: plan.Plan) -> None:
        display.display(plan.render(made).rstrip())

    def _show_for_diff(self, made: plan.Plan) -> None:
        if self._task.diff:
            self._show(made)

    @staticmethod
    def _progress(event: apply.Event) -> None:
        display.display(f"  {event}", color="red" if event.failed else None)


def describe(outcome: apply.Outcome) -> dict[str, t.Any]:
    """What the task returns."""
    result: dict[str, t.Any] = {
        "changed": bool(outcome.done),
        "msg": plan.summary(outcome.plan),
        **describe_plan(outcome.plan),
        "actions": [describe_action(action) for action in outcome.done],
    }
    if outcome.report():
        result["failed"] = True
        result["msg"] = outcome.report()
        result["failures"] = [
            {**describe_action(failure.action), "reason": failure.reason} for failure in outcome.failures
        ]
        # Ansible prints a failed result as it is, and what failed should not drown in what did not.
        del result["plan"], result["actions"]
    return result


def describe_plan(made: plan.Plan) -> dict[str, t.Any]:
    """A plan as plain data."""
    return {
        "plan": plan.render(made),
        "actions": [describe_action(action) for action in made.actions],
        "notes": [
            {"what": note.what, "kind": note.kind, "name": note.name, "detail": note.detail} for note in made.notes
        ],
    }


def describe_action(action: plan.Action) -> dict[str, str]:
    """An action as plain data."""
    return {"verb": action.verb, "kind": action.kind, "name": action.name, "detail": action.detail}
