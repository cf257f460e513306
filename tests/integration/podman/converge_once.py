# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that converges one fleet file and is there to be killed: ``python converge_once.py FILE [absent]``."""

from __future__ import annotations

import sys

from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import apply, plan, spec


def main(path: str, state: str = "present") -> int:
    """Does what the action plugin does, without Ansible around it. 0 when all went well."""
    fleet = spec.load(path)
    options = plan.Options(
        state=state, confirm=fleet.site if state == "absent" else "", delete_kept_volumes=state == "absent"
    )
    outcome = apply.converge(fleet, base.connect(fleet), options, lambda event: print(event, flush=True))
    print(outcome.report() or f"{len(outcome.done)} actions done", flush=True)
    return 1 if outcome.report() else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
