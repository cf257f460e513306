# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation only: the work is done on the controller, in plugins/action/fleet.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet
short_description: Make the machines of a site as its fleet file says
version_added: 1.0.0
description:
  - Compares a fleet file with what its cloud has, and makes the difference - networks, volumes and machines.
  - In check mode and with C(--diff) the whole plan is printed as a table - what would be made, what has drifted and is
    not touched, what is surplus, and the quota that is needed.
  - Touches only what belongs to the site, known by tags that it has set itself. Other resources are left alone,
    however they are named.
  - May be stopped at any moment. The next run goes on where this one was.
  - A machine that fails is named at the end; the others are made.
  - Volumes outlive their machines unless the fleet file says C(keep) C(false).
  - A line is shown for every change of state while it works.
options:
  fleet_file:
    description: The fleet file, see docs/fleet-file.md.
    type: path
    required: true
  state:
    description:
      - V(present) makes what is missing.
      - V(absent) takes the whole site away. This needs O(confirm).
    type: str
    choices: [present, absent]
    default: present
  prune:
    description: Takes away machines, networks and volumes of the site that the fleet file does not have any more.
      Volumes that are kept stay.
    type: bool
    default: false
  replace:
    description: Hosts that are made anew. Their volumes that are kept are given to the new machine.
    type: list
    elements: str
    default: []
  confirm:
    description: The name of the site, to say that O(state=absent) is meant.
    type: str
    default: ''
  delete_kept_volumes:
    description: Takes away kept volumes too. Only with O(state=absent).
    type: bool
    default: false
attributes:
  check_mode:
    description: Prints the plan and changes nothing.
    support: full
  diff_mode:
    description: Prints the plan as a table.
    support: full
author:
  - the omtd.workflow contributors (@omtd-workflow)
"""

EXAMPLES = r"""
- name: Make the machines
  omtd.workflow.fleet:
    fleet_file: mysite/mysite.fleet.yml

- name: Take away what the fleet file does not have any more
  omtd.workflow.fleet:
    fleet_file: mysite/mysite.fleet.yml
    prune: true

- name: Make one worker anew
  omtd.workflow.fleet:
    fleet_file: mysite/mysite.fleet.yml
    replace: [mysite-worker-2]

- name: Take the whole site away, except for the volumes that are kept
  omtd.workflow.fleet:
    fleet_file: mysite/mysite.fleet.yml
    state: absent
    confirm: mysite
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode.
  returned: when nothing failed
  type: list
  elements: dict
  sample:
    - {verb: create, kind: machine, name: lab-worker-1, detail: "debian-12, 1 vCPU, 1024 MiB, 172.31.77.130"}
notes:
  description: What was seen and not touched - drift, surplus, kept volumes.
  returned: always
  type: list
  elements: dict
  sample:
    - {what: drift, kind: machine, name: lab-worker-1, detail: "ram 1024 MiB, wanted 2048 MiB"}
plan:
  description: The plan as a table.
  returned: when nothing failed
  type: str
failures:
  description: What failed, with the reason.
  returned: when something failed
  type: list
  elements: dict
  sample:
    - {verb: contact, kind: machine, name: lab-worker-1, reason: does not answer}
"""
