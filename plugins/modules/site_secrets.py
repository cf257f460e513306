# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation only: the work is done on the controller, in plugins/action/site_secrets.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: site_secrets
short_description: Write a site's random secrets into its vault
version_added: 1.0.0
description:
  - Makes a random value for each secret of a table that the site's vault file does not have yet,
    and writes the file encrypted with C(ansible-vault), mode 0600.
  - Never changes or removes a secret that is there, whoever wrote it.
  - Uses the vault password that C(ansible-playbook) was given. When it was given none, it uses the file
    C(.vault-password) of the site folder, which it makes (mode 0600, random) and adds to C(.gitignore).
  - Runs on the controller. No secret appears in its result, its diff or in messages.
options:
  site_folder:
    description: The folder of the fleet file.
    type: path
    required: true
  table:
    description: The secrets that the site has.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The variable. Begins with C(vault_).
        type: str
        required: true
      kind:
        description: What the value is made of. C(base64) encodes random bytes.
        type: str
        choices: [password, hex, base64]
        default: password
      length:
        description: Characters of the value, or bytes before encoding for C(base64). At least 16.
        type: int
        default: 32
      purpose:
        description: What the secret is for. Becomes a comment in the vault.
        type: str
        default: ''
      groups:
        description: Groups that need the secret. Not used here; see M(omtd.workflow.validate_site).
        type: list
        elements: str
        default: []
  given:
    description:
      - Values that exist already, for instance those of a site that is being migrated.
        Taken for keys that the vault lacks, before random ones are made.
        Keys outside the table are allowed when they begin with C(vault_).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says which secrets it would add, and writes nothing.
    support: full
  diff_mode:
    description: The diff names the secrets that are added, never their values.
    support: full
  idempotent:
    description: When the vault has every key of the table, nothing is written.
    support: full
author:
  - the omtd.workflow contributors (@omtd-workflow)
"""

EXAMPLES = r"""
- name: Write the site's missing secrets
  omtd.workflow.site_secrets:
    site_folder: /srv/sites/lab
    table:
      - name: vault_registry_push_password
        kind: password
        length: 32
        purpose: Password of the user push of the component registry.
"""

RETURN = r"""
path:
  description: The vault file.
  returned: always
  type: str
added:
  description: Names of the secrets that were added.
  returned: always
  type: list
  elements: str
kept:
  description: How many secrets of the table were there already.
  returned: always
  type: int
password_file:
  description: The file with the vault password that was made or used, empty when the password came from elsewhere.
  returned: always
  type: str
"""
