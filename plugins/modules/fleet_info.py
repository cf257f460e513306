# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation only: the work is done on the controller, in plugins/action/fleet_info.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_info
short_description: Tell what a site's cloud has, and what its fleet file would change
version_added: 1.0.0
description:
  - Compares a fleet file with what its cloud has. Changes nothing and takes no lock.
options:
  fleet_file:
    description: The fleet file, see docs/fleet-file.md.
    type: path
    required: true
attributes:
  check_mode:
    description: Does the same as always, it changes nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author:
  - the omtd.workflow contributors (@omtd-workflow)
seealso:
  - module: omtd.workflow.fleet
"""

EXAMPLES = r"""
- name: Look at the fleet
  omtd.workflow.fleet_info:
    fleet_file: mysite/mysite.fleet.yml
  register: fleet

- name: Fail when something is to be done
  ansible.builtin.assert:
    that: fleet.actions | length == 0
    fail_msg: "{{ fleet.plan }}"
"""

RETURN = r"""
site:
  description: The name of the site.
  returned: always
  type: str
machines:
  description: The hosts of the fleet file, with what the cloud has of them.
  returned: always
  type: list
  elements: dict
  sample:
    - {name: lab-worker-1, state: running, ready: true, private_address: 172.31.77.130, public_address: ''}
actions:
  description: What M(omtd.workflow.fleet) would do.
  returned: always
  type: list
  elements: dict
notes:
  description: What is seen and would not be touched - drift, surplus, kept volumes.
  returned: always
  type: list
  elements: dict
problems:
  description: Why the plan would be refused.
  returned: always
  type: list
  elements: str
plan:
  description: The plan as a table.
  returned: always
  type: str
"""
