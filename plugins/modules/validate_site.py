# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation only: the work is done on the controller, in plugins/action/validate_site.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_site
short_description: Check a whole site before anything is installed
version_added: 1.0.0
description:
  - Runs the argument specs of every role for the hosts that the role will be run on, with the role's own defaults,
    and checks what no single role can see - secrets, groups that need each other, releases of one cluster, memory.
  - Fails once, and its message has everything that is wrong, each as C(thing - value - rule; way out).
    Values of secrets are never shown.
  - Changes nothing and connects to no host. It uses the facts that were gathered before, and works without them.
options:
  roles:
    description: The roles that install the hosts of a group, as C({group - [role, ...]}).
      Roles that the collection lacks are passed over.
    type: dict
    required: true
  secrets:
    description: The table of the site's secrets, see M(omtd.workflow.site_secrets).
    type: list
    elements: dict
    default: []
  needs:
    description: Which group needs which other one, as C({group - {other - reason}}).
    type: dict
    default: {}
  forbidden:
    description: Groups that must not share a host.
    type: list
    elements: dict
    default: []
    suboptions:
      groups:
        description: The groups.
        type: list
        elements: str
        required: true
      why:
        description: The reason, for the message.
        type: str
        required: true
  memory:
    description: MiB that the services of a group need, as C({group - MiB}). They add up on a host of several groups.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Does the same as always, it changes nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author:
  - the omtd.workflow contributors (@omtd-workflow)
"""

EXAMPLES = r"""
- name: Check the site
  omtd.workflow.validate_site:
    roles:
      all: [base]
      executor: [galaxy, executor]
    needs:
      executor:
        cluster_master: the executor gives its jobs to the scheduler
  run_once: true
"""

RETURN = r"""
warnings:
  description: What is allowed, but probably not meant.
  returned: when there is something
  type: list
  elements: str
checked:
  description: How many hosts, roles and role arguments were looked at.
  returned: always
  type: dict
  sample:
    hosts: 5
    roles: 9
    arguments: 210
"""
