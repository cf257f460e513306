# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts, groups, addresses and site-wide values of a site, from its fleet file and its cloud."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: The hosts of a site, from its fleet file and its cloud
version_added: 1.0.0
description:
  - Reads a fleet file, named C(*.fleet.yml) or C(*.fleet.yaml), and asks the cloud for the addresses of the machines.
  - A machine that is not made yet is listed too, with C(fleet_state) C(absent).
  - Defines every group that a role of the collection knows, even when it is empty.
  - Gives every host C(ansible_host), C(ansible_user), C(fleet_site), C(fleet_machine), C(fleet_index), C(fleet_state),
    C(fleet_private_address), C(fleet_public_address), C(fleet_vcpus), C(fleet_ram_mib), C(fleet_disk_gib),
    C(fleet_volumes) and C(fleet_groups), and the site-wide values to the group all - C(site_name), C(site_domain),
    C(site_timezone), C(site_shared_storage), C(site_database_dir), C(site_tools_dir), C(site_job_user),
    C(site_job_uid), C(site_folder) and C(cluster_scheduler).
  - Hosts without a public address are reached through the first host of the group jump_host, when the site has one.
    The file C(.fleet/ssh_config) beside the fleet file says how, for Ansible and for people too,
    as in C(ssh -F .fleet/ssh_config HOST).
  - When the cloud does not answer, the last state that it told is used, with a warning that says how old it is.
  - When the site folder has a file C(.vault-password), it is one more vault password of the run,
    so that a site opens its own vault.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Names this plugin, so that Ansible finds it without configuration.
    type: str
    required: true
    choices: [omtd.workflow.fleet]
author:
  - the omtd.workflow contributors (@omtd-workflow)
"""

EXAMPLES = r"""
# mysite/mysite.fleet.yml
plugin: omtd.workflow.fleet
site: mysite
cloud:
  provider: podman
  subnet: 172.31.80.0/24
machines:
  executor:
    groups: [executor]
    ram: 4 GiB
  worker:
    count: 2
    groups: [normal]

# The usual keys of constructed inventories work beside it
keyed_groups:
  - key: fleet_machine
    prefix: machine
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible-inventory
cache_timeout: 300
"""

import datetime
import json
import os
import re
import tempfile
import typing as t
from pathlib import Path

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.module_utils.common.text.converters import to_text
from ansible.parsing.vault import FileVaultSecret
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.omtd.workflow.plugins.module_utils.clouds.base import CloudError
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import spec as fleet_spec
from ansible_collections.omtd.workflow.plugins.module_utils.site import fleet_hosts, ssh_config

if t.TYPE_CHECKING:
    from ansible.inventory.data import InventoryData
    from ansible.parsing.dataloader import DataLoader

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core before 2.19: whatever is not wrapped may be a template

    def trust_as_template(value: str) -> str:
        return value


CACHE_FORMAT = 1
PLAIN = re.compile(r"[A-Za-z0-9 ._:/+@,=~-]*")
"""A text of these characters is no template: it has no brace, percent or hash sign."""


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Lists the hosts of one fleet file."""

    NAME = "omtd.workflow.fleet"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith((".fleet.yml", ".fleet.yaml"))

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_options(path)
        self._open_vault(Path(path).resolve().parent)
        try:
            spec = fleet_spec.load(path)
        except fleet_spec.FleetFileError as exc:
            raise AnsibleParserError(to_text(exc)) from exc
        state = self._state(spec, path, cache)
        hosts = fleet_hosts.merge(spec, state)
        try:
            self._write_ssh_config(spec, state, hosts)
        except ValueError as exc:
            raise AnsibleParserError(f"{spec.cloud.provider}: {exc}; nothing of this answer is used") from exc
        self._populate(spec, hosts)
        self._construct(hosts)

    def _read_options(self, path: str) -> None:
        """Options stand in the fleet file. `plugin` may be left out where ansible.cfg enables this plugin by name."""
        try:
            content = self.loader.load_from_file(path, cache="none", trusted_as_template=True)
        except TypeError:  # ansible-core before 2.19 knows no trust
            content = self.loader.load_from_file(path, cache=False)
        if not isinstance(content, dict):
            raise AnsibleParserError(
                f"{path}: is no mapping: a fleet file has the keys site, cloud and machines; see docs/fleet-file.md"
            )
        direct = {
            "plugin": self.NAME,
            **{key: value for key, value in content.items() if key in fleet_spec.INVENTORY_KEYS},
        }
        self.set_options(direct=direct, var_options=self._vars)
        self.load_cache_plugin()

    # ------------------------------------------------------------------ what the cloud says, or said

    def _state(self, spec: fleet_spec.FleetSpec, path: str, cache: bool) -> fleet_hosts.State:
        """The observed machines: cached, asked for, or the last known."""
        if spec.cloud.provider == "existing":  # the fleet file itself says where the machines are
            return fleet_hosts.observe(spec)
        key = self.get_cache_key(path)
        caching = bool(self.get_option("cache"))
        cached = self._cached(key) if caching and cache else {}
        # A machine that was missing may have been made meanwhile, so only a whole fleet is taken from the cache.
        if self._is_of(spec, cached) and fleet_hosts.is_whole(spec, cached):
            return cached
        last_path = fleet_hosts.ssh_config_path(spec).with_name("last-state.json")
        try:
            state = fleet_hosts.observe(spec)
        except CloudError as exc:
            last = _read_json(last_path)
            if not self._is_of(spec, last):
                self.display.warning(
                    f"{spec.cloud.provider}: does not answer, and there is no last known state of {spec.site}: "
                    f"its machines count as absent ({to_text(exc)})"
                )
                return {"format": CACHE_FORMAT, "site": spec.site, "machines": {}}
            self.display.warning(
                f"{spec.cloud.provider}: does not answer; the hosts of {spec.site} are those last seen "
                f"{last['taken']} ({to_text(exc)})"
            )
            return last
        state.update(format=CACHE_FORMAT, site=spec.site, taken=_now())
        if caching:
            self._cache[key] = state
        if _without_time(_read_json(last_path)) != _without_time(state):
            self._write(last_path, json.dumps(state, indent=1, sort_keys=True) + "\n")
        return state

    def _cached(self, key: str) -> fleet_hosts.State:
        try:
            return self._cache[key]
        except KeyError:
            return {}

    @staticmethod
    def _is_of(spec: fleet_spec.FleetSpec, state: fleet_hosts.State) -> bool:
        """Whether a stored state can be read, and is one of this site."""
        return state.get("format") == CACHE_FORMAT and state.get("site") == spec.site

    # ------------------------------------------------------------------ the inventory

    def _populate(self, spec: fleet_spec.FleetSpec, hosts: list[fleet_hosts.Host]) -> None:
        for group in fleet_spec.GROUPS:
            self.inventory.add_group(group)
        for parent, children in fleet_spec.GROUP_CHILDREN.items():
            for child in children:
                self.inventory.add_child(parent, child)
        # The distribution's own Python, which has the bindings of apt. Said here, no run has to look for it.
        self.inventory.set_variable("all", "ansible_python_interpreter", "/usr/bin/python3")
        for name, value in fleet_spec.site_values(spec).items():
            self.inventory.set_variable("all", name, harmless(value))
        for host in hosts:
            self.inventory.add_host(host.name)
            for group in host.groups:
                self.inventory.add_group(group)
                self.inventory.add_child(group, host.name)
            for name, value in host.variables.items():
                self.inventory.set_variable(host.name, name, harmless(value))

    def _construct(self, hosts: list[fleet_hosts.Host]) -> None:
        compose, groups, keyed = (self.get_option(name) for name in ("compose", "groups", "keyed_groups"))
        if not (compose or groups or keyed):
            return
        strict = self.get_option("strict")
        for host in hosts:
            variables = self.inventory.get_host(host.name).get_vars()
            self._set_composite_vars(compose, variables, host.name, strict=strict)
            variables = self.inventory.get_host(host.name).get_vars()
            self._add_host_to_composed_groups(groups, variables, host.name, strict=strict)
            self._add_host_to_keyed_groups(keyed, variables, host.name, strict=strict)

    # ------------------------------------------------------------------ files beside the fleet file

    def _write_ssh_config(
        self, spec: fleet_spec.FleetSpec, state: fleet_hosts.State, hosts: list[fleet_hosts.Host]
    ) -> None:
        path = fleet_hosts.ssh_config_path(spec)
        destinations = fleet_hosts.destinations(spec, state, hosts)
        text = ssh_config.render(spec.site, destinations, fleet_hosts.known_hosts(spec))
        try:
            current = path.read_text(encoding="utf-8")
        except OSError:
            current = ""
        if current != text:
            self._write(path, text)

    def _write(self, path: Path, text: str) -> None:
        """Replaces a file in one step: other runs of Ansible may be reading it."""
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".omtd-")
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(temporary).replace(path)
        except OSError as exc:
            self.display.warning(f"{path}: cannot be written ({exc}); the hosts may not be reached")

    def _open_vault(self, folder: Path) -> None:
        """Adds the site's own vault password to those that Ansible was given."""
        path = folder / ".vault-password"
        vault = self.loader._vault
        if not path.is_file() or any(_filename(secret) == str(path) for dummy, secret in vault.secrets or []):
            return
        secret = FileVaultSecret(filename=str(path), loader=self.loader)
        try:
            secret.load()
        except AnsibleError as exc:
            self.display.warning(f"{path}: cannot be used as a vault password: {to_text(exc)}")
            return
        self.loader.set_vault_secrets([*(vault.secrets or []), ("default", secret)])


def harmless(value: t.Any) -> t.Any:
    """The value so that Ansible never takes it for a template, whoever wrote it: a fleet file or a cloud.

    A text that cannot hold a template is left plain, because tools that read `ansible-inventory --list` (testinfra)
    do not know the mark of an unsafe one.
    """
    if isinstance(value, str):
        return trust_as_template(value) if PLAIN.fullmatch(value) else wrap_var(value)
    if isinstance(value, dict):
        return {key: harmless(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [harmless(each) for each in value]
    return value


def _filename(secret: object) -> str:
    name = getattr(secret, "filename", None)
    return str(Path(to_text(name)).resolve()) if name else ""


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")


def _read_json(path: Path) -> dict[str, t.Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _without_time(state: dict[str, t.Any]) -> dict[str, t.Any]:
    return {key: value for key, value in state.items() if key != "taken"}
