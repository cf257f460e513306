# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The podman cloud: machines that are containers with systemd on this computer. Podman's command line is its API.

A machine can do what nested Docker needs, and neither set the computer's clock, load modules into its kernel nor open
its block devices. Which runtime does that depends on the computer's control groups, see :func:`engine_options`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import tarfile
import time
import typing as t
from pathlib import Path

from . import base, podman_image
from .first_contact import Contact, Door, SiteKeys, make_key_pair
from .local import (
    Computer,
    HostLock,
    memory_mib,
    missing,
    only_cgroup_v2,
    open_file_limits,
    raise_kernel_limit,
    run_folder,
)

if t.TYPE_CHECKING:
    from ..fleet.spec import FleetSpec

LABEL_WANTED = "omtd_wanted"
"""What a machine was made as. `podman ps` tells none of it, and one call must do for all machines."""

PACKAGES: dict[str, tuple[str, ...]] = {
    # package: what it brings, one of
    "podman": ("podman",),
    "netavark": ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark", "netavark"),
    "aardvark-dns": ("/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns", "aardvark-dns"),
    "iptables": ("iptables",),
    "mmdebstrap": ("mmdebstrap",),
    "openssh-client": ("ssh-keygen",),
}
RUNC = {"runc": ("runc",)}
CRUN = {"crun": ("crun", "runc")}

STATES = {
    "running": base.RUNNING,
    "paused": base.RUNNING,
    "stopping": base.RUNNING,
    "created": base.MADE,
    "configured": base.MADE,
    "initialized": base.MADE,
    "exited": base.STOPPED,
    "stopped": base.STOPPED,
}
# What nested Docker does without, and what would let a machine touch the computer that it runs on.
DROPPED_CAPABILITIES = ("SYS_TIME", "SYS_MODULE", "SYS_RAWIO", "SYSLOG", "WAKE_ALARM")
# The computer's disks are none of a machine's business: not to open (no block device in the rule), nor to list.
MASKED_PATHS = "/proc/partitions:/proc/diskstats:/sys/block:/sys/class/block:/sys/dev/block"
STOP_LIMIT_SECONDS = 5
INOTIFY_LIMIT = ("fs.inotify.max_user_instances", 1024, "systemd in every machine")
"""The kernel's 128 are used up by 20 machines: each systemd takes about 7. Then units fail, sshd among them."""
MACHINE_CACHE = "/var/cache/omtd"
ARCHIVES = "/var/cache/apt/archives"
# A machine that was started a moment ago may not listen to systemctl yet.
RESTART_SSH = "for number in $(seq 100); do systemctl restart ssh && exit 0; sleep 0.3; done 2>/dev/null; exit 1"
LOST_ADDRESS = re.compile(r"ip address (?P<address>[0-9.]+) is already allocated to container ID (?P<holder>[0-9a-f]+)")
LIST_TRIES = 5
ALREADY = ("already exists", "already in use by")
GONE = ("no such", "no container with", "not found", "does not exist", "unable to find")


def engine_options(mounts: str, has_systemd: bool) -> list[str]:
    """podman's options for this computer, from /proc/mounts and whether systemd runs it.

    With any cgroup v1 hierarchy mounted (v1 or hybrid) Debian's crun refuses, and runc with cgroupfs works. With v2
    alone podman's own choice does, except that its systemd manager needs a systemd.
    """
    if not only_cgroup_v2(mounts):
        return ["--runtime", "runc", "--cgroup-manager", "cgroupfs"]
    return [] if has_systemd else ["--cgroup-manager", "cgroupfs"]


class PodmanCloud:
    """See :class:`base.Cloud`."""

    provider = "podman"
    capabilities = base.Capabilities(one_address_space=True)

    def __init__(self, spec: FleetSpec, computer: Computer | None = None) -> None:
        self.site = spec.site
        self.user = "debian"
        self.cache = Path(spec.cloud.options["cache_dir"]).expanduser()
        self.keys = SiteKeys(spec.folder, spec.cloud.options["identity_file"])
        self.contact = Contact(self.keys)
        self.public = {host.name for host in spec.hosts() if host.machine.public_ip}
        self.computer = computer or Computer()
        self._podman: list[str] = []
        self._images: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    # ------------------------------------------------------------------ the command line

    def podman(self) -> list[str]:
        """podman with the options that this computer wants. Raises CloudUnavailableError that names what is missing."""
        if not self._podman:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8")
            v2 = only_cgroup_v2(mounts)
            lacking = missing({**PACKAGES, **(CRUN if v2 else RUNC)})
            if lacking:
                raise base.CloudUnavailableError(
                    f"podman: this computer lacks {', '.join(lacking)}; apt-get install {' '.join(lacking)}"
                )
            self.computer.environment["CONTAINERS_CONF"] = str(self._containers_conf())
            self._podman = ["podman", *engine_options(mounts, Path("/run/systemd/system").is_dir())]
        return self._podman

    def _containers_conf(self) -> Path:
        """Settings for our calls only: the computer's own containers.conf stays as it is."""
        limits = ", ".join(f'"{name}={value}:{value}"' for name, value in open_file_limits().items())
        text = (
            "# Written by the fleet module; changes are lost.\n"
            f'[containers]\npids_limit = 0\ndefault_ulimits = [{limits}]\n[network]\nnetwork_backend = "netavark"\n'
        )
        path = self.cache / "containers.conf"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
        return path

    def _run(self, purpose: str, *arguments: str, stdin: str | bytes = "", limit_seconds: int = 120) -> str:
        """A podman command that changes something."""
        return self.computer.run(
            [*self.podman(), *arguments], purpose, stdin=stdin, limit_seconds=limit_seconds, root=True, changes=True
        )

    def _list(self, *arguments: str) -> list[dict[str, t.Any]]:
        """All things of a kind, other sites' too. Podman fails when one goes while it lists: then it is asked again."""
        purpose = f"list {arguments[0]}s"
        command = [*self.podman(), *arguments, "--format", "json"]
        for tries_left in reversed(range(LIST_TRIES)):
            try:
                return json.loads(self.computer.run(command, purpose, root=True) or "[]") or []
            except base.CloudUnavailableError:
                raise
            except (base.CloudError, ValueError) as exc:
                if not tries_left or not any(word in str(exc).lower() for word in GONE):
                    raise base.CloudUnavailableError(f"podman: cannot {purpose}: {exc}") from exc
        raise AssertionError("the last try returns or raises")

    def _create(self, purpose: str, *arguments: str) -> bool:
        """Makes something; False when it was there before."""
        try:
            self._run(purpose, *arguments)
        except base.CloudError as exc:
            if any(word in str(exc) for word in ALREADY):
                return False
            raise
        return True

    def _delete(self, purpose: str, *arguments: str) -> None:
        """Takes something away, which may be gone already."""
        try:
            self._run(purpose, *arguments)
        except base.CloudError as exc:
            if not any(word in str(exc).lower() for word in GONE):
                raise

    # ------------------------------------------------------------------ what there is

    def observe(self) -> base.Observed:
        machines = tuple(self._machine(each) for each in self._list("ps", "--all"))
        self._ids = {machine.name: machine.id for machine in machines}
        users: dict[str, list[str]] = {}
        for machine in machines:
            for volume in machine.volumes:
                users.setdefault(volume, []).append(machine.id)
        networks = tuple(
            base.Network(
                each["id"], each["name"], each.get("labels") or {}, (each.get("subnets") or [{}])[0].get("subnet", "")
            )
            for each in self._list("network", "ls")
        )
        volumes = tuple(
            base.Volume(
                id=each["Name"],
                name=each["Name"],
                tags=each.get("Labels") or {},
                size_gib=_number((each.get("Labels") or {}).get("omtd_size_gib")),
                attached_to=tuple(users.get(each["Name"], ())),
            )
            for each in self._list("volume", "ls")
        )
        ours = sum(machine.ram_mib for machine in machines if machine.tags.get("omtd_site") == self.site)
        quota = {"ram_mib": base.Quota(memory_mib(), ours)}
        return base.Observed(machines, networks, volumes, (), quota, tuple(self._lost_addresses()))

    @property
    def _lost_file(self) -> Path:
        return run_folder() / f"{self.site}.lost-addresses"

    def _lost_addresses(self) -> list[str]:
        """Addresses that podman holds for containers that are gone, see :meth:`_start`. A reboot frees them."""
        try:
            return self._lost_file.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return []

    def _machine(self, listed: dict[str, t.Any]) -> base.Machine:
        labels = listed.get("Labels") or {}
        name = (listed.get("Names") or [""])[0]
        wanted = _wanted(labels.get(LABEL_WANTED, ""))
        addresses = {network: wanted["addresses"].get(network, "") for network in listed.get("Networks") or []}
        private = next((address for address in addresses.values() if address), "")
        state = STATES.get(listed.get("State", ""), base.ERROR)
        ours = labels.get("omtd_site") == self.site
        return base.Machine(
            id=listed["Id"],
            name=name,
            tags={key: value for key, value in labels.items() if key != LABEL_WANTED},
            state=state,
            ready=ours and state == base.RUNNING and self.keys.is_met(name, listed["Id"]),
            image=wanted["image"],
            vcpus=_number(wanted["vcpus"]),
            ram_mib=_number(wanted["ram_mib"]),
            disk_gib=_number(wanted["disk_gib"]),
            addresses=addresses,
            private_address=private,
            public_address=private if name in self.public else "",
            volumes=tuple(wanted["volumes"]),
            metadata=wanted["metadata"],
            user=self.user,
            identity_file=str(self.keys.identity_file),
            host_key_alias=name,
            fault=f"podman says {listed.get('State')}" if state == base.ERROR else "",
        )

    # ------------------------------------------------------------------ before, and beside

    def lock(self, holder: str, seconds: int) -> HostLock:
        lock = HostLock(self.site, holder, seconds)
        stragglers = run_folder() / f"{self.site}.commands"
        try:
            lock.wait_for_stragglers(stragglers, lambda _state: None)
        except BaseException:
            lock.release()
            raise
        self.computer.straggler_lock = stragglers
        return lock

    def prepare(self, machines: t.Sequence[base.WantedMachine], report: base.Report) -> None:
        self.keys.operator_key()
        raise_kernel_limit(self.computer, *INOTIFY_LIMIT, report)
        for image in sorted({machine.image for machine in machines}):
            self._image(image, report)

    def _image(self, name: str, report: base.Report) -> str:
        """podman's name of an image of the fleet file."""
        if name not in self._images:
            wanted = podman_image.recipe(podman_image.RELEASES[name], self.computer)
            podman = self.podman()
            self._images[name] = podman_image.ensure(wanted, podman, self.computer, self.cache, report)
            podman_image.remove_old(wanted, podman, self.computer)
        return self._images[name]

    # ------------------------------------------------------------------ networks and volumes

    def create_network(self, network: base.WantedNetwork) -> None:
        self._create(
            f"make the network {network.name}",
            "network", "create", "--subnet", network.subnet, *_labels(network.tags), network.name,
        )  # fmt: skip

    def delete_network(self, network_id: str) -> None:
        self._delete(f"delete the network {network_id}", "network", "rm", network_id)

    def create_volume(self, volume: base.WantedVolume) -> None:
        tags = {**volume.tags, "omtd_size_gib": str(volume.size_gib)}
        self._create(f"make the volume {volume.name}", "volume", "create", *_labels(tags), volume.name)

    def delete_volume(self, volume_id: str) -> None:
        self._delete(f"delete the volume {volume_id}", "volume", "rm", volume_id)

    def grow_volume(self, volume_id: str, volume: base.WantedVolume) -> None:
        raise base.CloudError(f"{volume.name}: podman's volumes have no size")

    def attach_volume(self, volume_name: str, machine_id: str) -> None:
        raise base.CloudError(f"{volume_name}: podman attaches volumes only when it makes a machine")

    def create_address(self, address: base.WantedAddress) -> None:
        raise base.CloudError(f"{address.name}: podman has no public addresses")

    def delete_address(self, address_id: str) -> None:
        raise base.CloudError(f"{address_id}: podman has no public addresses")

    # ------------------------------------------------------------------ machines

    def create_machine(self, machine: base.WantedMachine, report: base.Report) -> None:
        image = self._image(machine.image, report)
        purpose = f"make the machine {machine.name}"
        self._create(purpose, "create", *self._create_options(machine), image, podman_image.INIT)
        listed = [each for each in self._list("ps", "--all") if machine.name in (each.get("Names") or [])]
        if len(listed) != 1 or any(
            (listed[0].get("Labels") or {}).get(key) != machine.tags[key] for key in machine.tags
        ):
            raise base.CloudError(
                f"podman: cannot {purpose}: something else has the name; see podman ps --all --external"
            )
        self._ids[machine.name] = listed[0]["Id"]
        report("is made")
        self.start_machine(listed[0]["Id"], machine, report)

    def _create_options(self, machine: base.WantedMachine) -> list[str]:
        """Everything between `podman create` and the image."""
        wanted = {
            "image": machine.image,
            "vcpus": machine.vcpus,
            "ram_mib": machine.ram_mib,
            "disk_gib": machine.disk_gib,
            "addresses": dict(machine.addresses),
            "volumes": [mount.volume for mount in machine.mounts if mount.volume],
            "metadata": dict(machine.metadata),
        }
        options = ["--name", machine.name, "--hostname", machine.name]
        options += _labels({**machine.tags, LABEL_WANTED: json.dumps(wanted, sort_keys=True)})
        for network, address in machine.addresses.items():
            options += ["--network", f"{network}:ip={address}" if address else network]
        # --no-hosts: podman would mount a file that the machine's own tools cannot replace
        options += ["--no-hosts", "--systemd=always", "--cgroupns=private", "--cap-add=ALL"]
        options += [f"--cap-drop={capability}" for capability in DROPPED_CAPABILITIES]
        for security in ("seccomp=unconfined", "apparmor=unconfined", "unmask=/sys/fs/cgroup", f"mask={MASKED_PATHS}"):
            options += ["--security-opt", security]
        options += ["--device-cgroup-rule", "c *:* rwm", "--sysctl", "net.ipv4.ip_forward=1"]
        options += ["--cpus", str(machine.vcpus), "--memory", f"{machine.ram_mib}m"]
        for mount in machine.mounts:
            options += ["--volume", f"{mount.volume or mount.source}:{mount.path}"]
        return options + self._cache_mounts(podman_image.RELEASES[machine.image])

    def _cache_mounts(self, release: str) -> list[str]:
        """The computer's caches in a machine. Package archives are below an overlay: machines that download the same
        at the same time do not disturb each other."""
        for folder in ("uv", "images", f"apt/{release}"):
            (self.cache / "machines" / folder).mkdir(parents=True, exist_ok=True)
        root = self.cache / "machines"
        return ["--volume", f"{root}:{MACHINE_CACHE}", "--volume", f"{root}/apt/{release}:{ARCHIVES}:O"]

    def start_machine(self, machine_id: str, machine: base.WantedMachine, report: base.Report) -> None:
        self._ids[machine.name] = machine_id
        if not self.keys.is_met(machine.name, machine_id):
            self._hand_over_keys(machine_id, machine)
        self._forget_in_runtime(machine_id)
        self._start(machine_id, machine)
        report("is started")

    def _start(self, machine_id: str, machine: base.WantedMachine) -> None:
        """A podman that was killed while it started a container holds its address until the computer reboots, even
        against the same container and a new network of the name (podman 4.3). A machine that never ran is removed
        then, and the next plan gives it another address."""
        try:
            self._run(f"start the machine {machine.name}", "start", machine_id)
        except base.CloudError as exc:
            lost = LOST_ADDRESS.search(str(exc))
            alive = {each["Id"] for each in self._list("ps", "--all")} - {machine_id}
            if not lost or lost["holder"] in alive:
                raise
            with self._lost_file.open("a", encoding="ascii") as stream:
                stream.write(f"{lost['address']}\n")
            if self.keys.is_met(machine.name, machine_id):
                way_out = f"make it anew with replace: [{machine.name}]"
            else:
                self.delete_machine(machine_id, machine.name)
                way_out = "run again, it gets another one"
            raise base.CloudError(
                f"podman: cannot start the machine {machine.name}: its address {lost['address']} is still held for a "
                f"container that was stopped half way; {way_out}"
            ) from exc

    def _forget_in_runtime(self, machine_id: str) -> None:
        """Takes away what a start that was killed has left with the runtime. podman does not know of it, refuses to
        start the machine ("container with given ID already exists"), and would leave its first process behind."""
        for runtime in ("runc", "crun"):
            if os.geteuid() != 0 or Path("/run", runtime, machine_id).exists():
                self.computer.attempt([runtime, "delete", "--force", machine_id], root=True, changes=True)

    def _hand_over_keys(self, machine_id: str, machine: base.WantedMachine) -> None:
        """The first host key and the operator's key, pinned before the machine has them."""
        operator = self.keys.operator_key()
        pair = make_key_pair()
        self.keys.pin_first(machine.name, _address(machine), machine_id, pair.public)
        hosts = f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n::1 localhost ip6-localhost ip6-loopback\n"
        archive = _archive(
            [
                _File("etc/ssh/ssh_host_ed25519_key", pair.private, 0o600),
                _File("etc/ssh/ssh_host_ed25519_key.pub", f"{pair.public}\n", 0o644),
                _File("home/debian/.ssh", None, 0o700, 1000),
                _File("home/debian/.ssh/authorized_keys", f"{operator} operator of {self.site}\n", 0o600, 1000),
                _File("etc/hosts", hosts, 0o644),
            ]
        )
        self._run(f"hand keys over to {machine.name}", "cp", "--archive=false", "-", f"{machine_id}:/", stdin=archive)

    def contact_machine(self, machine: base.WantedMachine, report: base.Report) -> None:
        machine_id = self._ids.get(machine.name)
        if machine_id is None:
            raise base.CloudError(f"{machine.name}: is not there")
        door = Door(machine.name, _address(machine), machine_id, self.user)
        if self.keys.is_met(machine.name, machine_id):
            self.contact.wait(door)
            report("answers ssh")
            return
        if not self.keys.is_first_key_pinned(machine.name, machine_id):
            # It was met from another site folder, or this one has lost its keys. Whoever rules this computer may.
            self._hand_over_keys(machine_id, machine)
            self._run(f"restart ssh of {machine.name}", "exec", machine_id, "sh", "-c", RESTART_SSH)
        self.contact.meet(door, machine.user_data, report)

    def adopt_machine(self, machine_id: str, tags: base.Tags) -> None:
        raise base.CloudError(f"{machine_id}: podman cannot label a container that exists")

    def delete_machine(self, machine_id: str, machine_name: str) -> None:
        self._delete(
            f"delete the machine {machine_name}",
            "rm", "--force", "--volumes", "--time", str(STOP_LIMIT_SECONDS), machine_id,
        )  # fmt: skip
        self._forget_in_runtime(machine_id)
        self.keys.forget(machine_name)


# ------------------------------------------------------------------------------------------------------- helpers


@dataclasses.dataclass(frozen=True)
class _File:
    """A file (a folder when there is no text) that is put into a machine. ``owner`` is uid and gid."""

    path: str
    text: str | None
    mode: int
    owner: int = 0


def _archive(files: t.Iterable[_File]) -> bytes:
    """A tar archive of files, for `podman cp`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for file in files:
            entry = tarfile.TarInfo(file.path)
            entry.mode, entry.uid, entry.gid, entry.mtime = file.mode, file.owner, file.owner, int(time.time())
            content = (file.text or "").encode()
            entry.size = len(content)
            if file.text is None:
                entry.type = tarfile.DIRTYPE
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _labels(tags: base.Tags) -> list[str]:
    return [word for key, value in tags.items() for word in ("--label", f"{key}={value}")]


def _address(machine: base.WantedMachine) -> str:
    return next((address for address in machine.addresses.values() if address), machine.name)


def _number(text: object) -> int:
    """A number out of a label, which anybody may have written; 0 for what is none."""
    return int(str(text)) if str(text).isascii() and str(text).isdigit() else 0


def _wanted(text: str) -> dict[str, t.Any]:
    """What a machine was made as, out of its label. Anybody may have written it, so only what has its form counts."""
    result: dict[str, t.Any] = {"image": "", "vcpus": 0, "ram_mib": 0, "disk_gib": 0}
    result |= {"addresses": {}, "volumes": [], "metadata": {}}
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return result
    if isinstance(content, dict):
        result |= {key: content[key] for key, empty in result.items() if type(content.get(key)) is type(empty)}
    return result
