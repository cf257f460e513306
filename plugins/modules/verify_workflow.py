# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation only: the work is done on the controller, in plugins/action/verify_workflow.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_workflow
short_description: Run a workflow through the REST API of a site's executor
version_added: 1.0.0
description:
  - Uploads documents as a collection, runs a workflow over them and brings the results back, with BioBlend, from the
    controller. A line shows every few seconds how far each step is.
  - Everything it makes has the name of the run, and is taken away at the end, also when something failed. What
    interrupted runs left is found by its name, and taken away by O(state=ready).
  - When jobs fail, the message has the reason that Galaxy or the job gives.
options:
  state:
    description:
      - V(ready) sees that the API answers and that the key is an administrator's, and takes away what interrupted
        runs left.
      - V(present) runs what is asked for.
      - V(absent) takes away whatever the run still has in Galaxy, and has Galaxy forget wrappers that are gone.
    type: str
    choices: [ready, present, absent]
    default: present
  address:
    description: Host and port of the API, as the host of the task reaches it.
    type: str
    required: true
  through_ssh:
    description: Reach the address through a port that ssh forwards to the host of the task, as Ansible reaches it.
      Needs a key or an agent; ssh is not given a password.
    type: bool
    default: true
  api_key:
    description: API key of an administrator of that Galaxy.
    type: str
    required: true
  run:
    description:
      - Name of the run, such as V(20261121t005012z-3f9a), the moment it began in UTC and four hexadecimal digits.
    type: str
    required: true
  tools:
    description: Ids of the tools of the run as C({command - id}). Galaxy must load all of them before anything runs.
    type: dict
    default: {}
  workflow:
    description: File on the controller with the workflow in Galaxy's Format 2. Without it none is run.
    type: path
  documents:
    description: Directory on the controller with the documents, C(*.txt).
    type: path
  results:
    description: Directory on the controller that the results are written to.
    type: path
  latency_jobs:
    description: How many small jobs to run one after the other.
    type: int
    default: 0
  parallel_jobs:
    description: How many small jobs to submit at once.
    type: int
    default: 0
  timeout:
    description: Seconds that all of it may take.
    type: int
    default: 1800
attributes:
  check_mode:
    description: Runs nothing in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author:
  - the omtd.workflow contributors (@omtd-workflow)
"""

EXAMPLES = r"""
- name: See that the executor can be used
  omtd.workflow.verify_workflow:
    state: ready
    address: 127.0.0.1:8080
    api_key: "{{ verify_api_key }}"
    run: 20261121t005012z-3f9a
"""

RETURN = r"""
live:
  description: Runs that go on at this moment.
  returned: with O(state=ready) and O(state=absent)
  type: list
  elements: str
leftovers:
  description: Interrupted runs that something was taken away of.
  returned: with O(state=ready)
  type: list
  elements: str
results:
  description: What was measured - seconds of each part, jobs with their times, seconds of small jobs.
  returned: with O(state=present), also after a failure
  type: dict
"""
