# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the workflow of verify on the executor's Galaxy, from the controller, and shows how far it is."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

import yaml
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.omtd.workflow.plugins.module_utils.verify import run as verify_run
from ansible_collections.omtd.workflow.plugins.module_utils.verify.platform import Galaxy, GalaxyError
from ansible_collections.omtd.workflow.plugins.module_utils.verify.tunnel import Destination, TunnelError, tunnel

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["ready", "present", "absent"], "default": "present"},
    "address": {"type": "str", "required": True},
    "through_ssh": {"type": "bool", "default": True},
    "api_key": {"type": "str", "required": True, "no_log": True},
    "run": {"type": "str", "required": True},
    "tools": {"type": "dict", "default": {}},
    "workflow": {"type": "path"},
    "documents": {"type": "path"},
    "results": {"type": "path"},
    "latency_jobs": {"type": "int", "default": 0},
    "parallel_jobs": {"type": "int", "default": 0},
    "timeout": {"type": "int", "default": 1800},
}

display = Display()


class ActionModule(ActionBase):
    """One run on one executor: is it ready, run it, take it away."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _dummy, args = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        result["changed"] = False
        if self._task.check_mode:
            result["skipped"] = True
            result["msg"] = "runs nothing in check mode"
            return result
        try:
            with self._galaxy(args) as galaxy:
                result.update(DO[args["state"]](galaxy, args))
        except (GalaxyError, TunnelError) as exc:
            result["failed"] = True
            result["msg"] = str(exc)
        return result

    @contextlib.contextmanager
    def _galaxy(self, args: dict[str, t.Any]) -> t.Iterator[Galaxy]:
        """Open the way to the executor, if need be through ssh."""
        shown = f"http://{args['address']}"
        if not args["through_ssh"] or self._connection.transport != "ssh":
            yield Galaxy(shown, args["api_key"])
            return
        with tunnel(self._destination(), args["address"]) as port:
            yield Galaxy(f"http://127.0.0.1:{port}", args["api_key"], shown)

    def _destination(self) -> Destination:
        """Give the executor as this play's ssh connection reaches it."""

        def option(name: str) -> str:
            return str(self._connection.get_option(name) or "")

        return Destination(
            host=option("host"),
            port=int(option("port") or 22),
            user=option("remote_user"),
            identity_file=option("private_key_file"),
            common_args=option("ssh_common_args"),
            extra_args=option("ssh_extra_args"),
            executable=option("ssh_executable") or "ssh",
        )


def make_ready(galaxy: Galaxy, args: dict[str, t.Any]) -> dict[str, t.Any]:
    """See that the executor can be used, and take away what interrupted runs left there."""
    galaxy.account()
    found = verify_run.clear_leftovers(galaxy)
    return {"live": found.live, "leftovers": found.runs, "changed": bool(found.runs), "galaxy": galaxy.version()}


def run_it(galaxy: Galaxy, args: dict[str, t.Any]) -> dict[str, t.Any]:
    """Run workflow and probes, whatever of them is asked for."""
    run = verify_run.Run(galaxy, args["run"], args["tools"], args["timeout"], display.display)
    outcome: dict[str, t.Any] = {}
    try:
        run.begin()
        if args["workflow"]:
            definition = yaml.safe_load(Path(args["workflow"]).read_text(encoding="utf-8"))
            documents = sorted(Path(args["documents"]).glob("*.txt"))
            run.workflow(definition, documents, Path(args["results"]))
        if args["latency_jobs"]:
            run.probe_latency(args["latency_jobs"])
        if args["parallel_jobs"]:
            run.probe_parallel(args["parallel_jobs"])
    except GalaxyError as exc:
        # The results so far are kept: the report has them beside the reason.
        outcome = {"failed": True, "msg": str(exc)}
    finally:
        with contextlib.suppress(GalaxyError):
            run.end()
    return {"changed": True, "results": run.results.as_dict(), **outcome}


def take_away(galaxy: Galaxy, args: dict[str, t.Any]) -> dict[str, t.Any]:
    """See that nothing of a run is left."""
    return {"changed": True, "live": verify_run.clear_run(galaxy, args["run"])}


DO: dict[str, t.Callable[[Galaxy, dict[str, t.Any]], dict[str, t.Any]]] = {
    "ready": make_ready,
    "present": run_it,
    "absent": take_away,
}
