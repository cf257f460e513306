# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation only: the work is done on the controller, in plugins/action/verify_report.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_report
short_description: Compare the result of a workflow with the local one and write a report
version_added: 1.0.0
description:
  - Compares the results of M(omtd.workflow.verify_workflow) with a local computation byte by byte, and writes
    C(report.md), C(keywords.svg), C(jobs.svg), C(corpus.tsv) and, for programs, C(results.json) into a directory of the
    controller.
  - Fails, after the report is written, when the results are not the same.
options:
  run:
    description: Name of the run.
    type: str
    required: true
  site:
    description: Name of the site.
    type: str
    required: true
  folder:
    description: Directory of the report on the controller.
    type: path
    required: true
  results_folder:
    description: Directory with the results of the workflow. Without it nothing is compared.
    type: path
  reference_folder:
    description: Directory with the results of the local computation.
    type: path
  corpus:
    description: What the corpus is - package, version, documents, bytes.
    type: dict
    default: {}
  image:
    description: What the image is - name, digest, mib, built, and reference with python, host and seconds.
    type: dict
    default: {}
  results:
    description: What was measured, from M(omtd.workflow.verify_workflow).
    type: dict
    default: {}
  failure:
    description: Why the run failed; empty when it did not. The report says so, and nothing is compared.
    type: str
    default: ""
  stays:
    description: What stays on the site, one sentence each.
    type: list
    elements: str
    default: []
  leftovers:
    description: Interrupted runs that something was taken away of.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Writes nothing in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author:
  - the omtd.workflow contributors (@omtd-workflow)
"""

EXAMPLES = r"""
- name: Write that the site could not be verified
  omtd.workflow.verify_report:
    run: 20261121t005012z-3f9a
    site: lab
    folder: reports/2026-11-21-005012-3f9a
    failure: the registry does not answer
"""

RETURN = r"""
report:
  description: The report's file.
  returned: always
  type: str
equal:
  description: Whether all results are the same.
  returned: when they were compared
  type: bool
keywords:
  description: The ten best terms of the corpus.
  returned: always
  type: list
  elements: str
phrases:
  description: The six best key phrases of the corpus.
  returned: always
  type: list
  elements: str
"""
