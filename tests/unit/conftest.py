"""Lets Ansible, inside of pytest, find the collection that is tested: below ANSIBLE_COLLECTIONS_PATH."""

from __future__ import annotations

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()
