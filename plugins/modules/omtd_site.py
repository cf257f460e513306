# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation only: the work is done on the controller, in plugins/action/omtd_site.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: omtd_site
short_description: Read an OMTD hosts file as the description of a site
version_added: 1.0.0
description:
  - Reads the C(hosts) file and the C(group_vars) of omtd-stack-setup, the playbook of the OpenMinTeD infrastructure,
    and returns the machines, settings and secrets of the same site for this collection.
  - Reads files only, and changes nothing. Vault-encrypted files are opened with the run's vault passwords.
  - The result has the secrets. Use C(no_log) on the task.
options:
  hosts_file:
    description: The old C(hosts) file.
    type: path
    required: true
  group_vars:
    description: The folder of the old group variables. By default C(group_vars) beside the C(hosts) file.
    type: path
  site:
    description: Name of the new site. By default made from C(cluster_name).
    type: str
    default: ''
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
- name: Read the old site
  omtd.workflow.omtd_site:
    hosts_file: /srv/omtd-stack-setup/hosts
  no_log: true
  register: old_site
"""

RETURN = r"""
site:
  description: Name of the new site.
  returned: always
  type: str
user:
  description: The account that most hosts are reached with.
  returned: always
  type: str
machines:
  description: Machine entries of the fleet file.
  returned: always
  type: dict
directories:
  description: Paths of the shared directories.
  returned: always
  type: dict
settings:
  description: Variables for C(group_vars/all/main.yml).
  returned: always
  type: dict
secrets:
  description: Variables for the vault, those only that are strong enough.
  returned: always
  type: dict
carried:
  description: What was carried over, one line each, without secrets.
  returned: always
  type: list
  elements: str
left:
  description: What was not carried over and why, one line each, without secrets.
  returned: always
  type: list
  elements: str
"""
