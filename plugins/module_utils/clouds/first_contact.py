# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first contact with a machine: no host key is ever taken on trust.

1. The controller makes a host key, pins it in ``<site folder>/.fleet/known_hosts`` and hands it to the new machine.
2. It logs in to the machine that can prove to have that key. The machine makes keys of its own, which nobody else has
   seen, and tells their public halves over this connection. The controller pins them too.
3. The machine takes its own keys into use, and the first ones are forgotten on both sides.

Stopped between any two steps, the pinned keys are those that the machine has, so the next run goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
import threading
import time
import typing as t
from pathlib import Path

from . import base

SSH_LIMIT_SECONDS = 60
"""A machine answers after 1 to 2 s; a busy computer needs ten times that."""
POLL_SECONDS = 0.2

# A script goes on when the run that sent it is killed, so the next one waits for it.
ONE_AT_A_TIME = """\
set -eu
umask 077
exec 9>/run/omtd-first-contact.lock
flock --wait 60 9
fresh=/etc/ssh/omtd-own-keys
"""
MAKE_OWN_KEYS = (
    ONE_AT_A_TIME
    + """\
# two keys, two public halves and the mark: less is there when a run was killed while they moved
if [ "$(ls "$fresh" 2>/dev/null | wc -l)" != 5 ]; then
  rm -rf "$fresh"; mkdir "$fresh"
  ssh-keygen -q -t ed25519 -N '' -f "$fresh/ssh_host_ed25519_key" -C "$(hostname)"
  ssh-keygen -q -t ecdsa -N '' -f "$fresh/ssh_host_ecdsa_key" -C "$(hostname)"
  touch "$fresh/complete"
fi
cat "$fresh"/*.pub
"""
)
USE_OWN_KEYS = (
    ONE_AT_A_TIME
    + """\
if [ -e "$fresh/complete" ]; then
  chmod 0644 "$fresh"/*.pub
  mv -f "$fresh"/ssh_host_* /etc/ssh/
  rm -f /etc/ssh/ssh_host_rsa_key /etc/ssh/ssh_host_rsa_key.pub
  systemctl restart ssh
  rm -rf "$fresh"
fi
"""
)
USER_DATA = """\
set -eu
[ ! -e /var/lib/omtd-user-data/done ] || exit 0
mkdir -p /var/lib/omtd-user-data
cat > /var/lib/omtd-user-data/script <<'OMTD_END_OF_USER_DATA'
{script}
OMTD_END_OF_USER_DATA
chmod 0700 /var/lib/omtd-user-data/script
log=/var/lib/omtd-user-data/log
/var/lib/omtd-user-data/script >"$log" 2>&1 </dev/null || {{ tail -n 3 "$log" >&2; exit 1; }}
touch /var/lib/omtd-user-data/done
"""

KEY_LINE = re.compile(
    r"(?P<type>ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) (?P<key>[A-Za-z0-9+/]+=*)(?: .*)?\Z"
)


@dataclasses.dataclass(frozen=True)
class KeyPair:
    """A key pair of ssh. ``public`` is ``type base64``, without comment."""

    private: str
    public: str


def make_key_pair() -> KeyPair:
    """A fresh ed25519 key pair, which is on no disk afterwards."""
    with tempfile.TemporaryDirectory(prefix="omtd-") as folder:
        path = Path(folder) / "key"
        _keygen("-t", "ed25519", "-N", "", "-C", "", "-f", str(path))
        return KeyPair(path.read_text(encoding="ascii"), _public(path.with_suffix(".pub").read_text(encoding="ascii")))


def _keygen(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["ssh-keygen", "-q", *arguments], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except FileNotFoundError as exc:
        raise base.CloudUnavailableError("ssh-keygen: is not installed; apt-get install openssh-client") from exc
    except subprocess.SubprocessError as exc:
        said = (getattr(exc, "stderr", "") or str(exc)).strip()
        raise base.CloudError(f"ssh-keygen: {said}") from exc


def _public(line: str) -> str:
    match = KEY_LINE.match(line.strip())
    if match is None:
        raise base.CloudError(f"no public key of ssh: {line.strip()[:60]!r}")
    return f"{match['type']} {match['key']}"


class SiteKeys:
    """The ssh keys of a site on the controller: the operator's, and those by which its machines are known.

    Safe for several threads and several processes.
    """

    def __init__(self, folder: str, identity_file: str = "") -> None:
        self.folder = Path(folder) / ".fleet"
        self.known_hosts = self.folder / "known_hosts"
        self.identity_file = Path(identity_file).expanduser() if identity_file else self.folder / "id_ed25519"
        self.is_ours = not identity_file
        self._public = ""
        self._thread_lock = threading.RLock()

    def operator_key(self) -> str:
        """The operator's public key; the pair is made at first need when the site configures none."""
        with self._locked():
            if not self._public:
                if not self.identity_file.exists():
                    if not self.is_ours:
                        raise base.CloudError(
                            f"cloud.identity_file: {self.identity_file}: no such file; make it with ssh-keygen"
                        )
                    fresh = self.identity_file.with_suffix(".new")
                    for path in (fresh, fresh.with_suffix(".new.pub")):
                        path.unlink(missing_ok=True)
                    _keygen("-t", "ed25519", "-N", "", "-C", "operator", "-f", str(fresh))
                    fresh.replace(self.identity_file)
                    Path(f"{fresh}.pub").replace(f"{self.identity_file}.pub")
                public = Path(f"{self.identity_file}.pub")
                line = (
                    public.read_text(encoding="ascii")
                    if public.exists()
                    else _keygen("-y", "-f", str(self.identity_file))
                )
                self._public = _public(line)
            return self._public

    def operator_mark(self) -> str:
        """Short, and another one when the operator's key is; '' when there is no key yet."""
        if not self.identity_file.exists():
            return ""
        return hashlib.sha256(self.operator_key().encode()).hexdigest()[:8]

    # ------------------------------------------------------------------ known_hosts

    def is_met(self, host: str, machine_id: str) -> bool:
        """Whether the machine's own keys are pinned, and it lets the present operator's key in."""
        return any(line.endswith(f" {self._own(machine_id)}") for line in self._lines_of(host))

    def is_first_key_pinned(self, host: str, machine_id: str) -> bool:
        """Whether a first-contact key was handed over for this machine and operator's key."""
        return any(line.endswith(f" {self._first(machine_id)}") for line in self._lines_of(host))

    def pin_first(self, host: str, address: str, machine_id: str, public: str) -> None:
        """Forgets other keys of the host, and knows this one from now on."""
        self._replace(host, [f"{host},{address} {public} {self._first(machine_id)}"])

    def pin_both(self, host: str, address: str, machine_id: str, own: t.Iterable[str]) -> None:
        """Knows the machine's own keys beside those pinned before: a run that was killed may have had it use some."""
        # They are marked as own only when the machine uses them, see pin_own.
        fresh = [f"{host},{address} {key} omtd:next:{machine_id[:12]}" for key in own]
        self._replace(host, list(dict.fromkeys([*self._lines_of(host), *fresh])))

    def pin_own(self, host: str, address: str, machine_id: str, own: t.Iterable[str]) -> None:
        """Knows the machine's own keys only."""
        self._replace(host, [f"{host},{address} {key} {self._own(machine_id)}" for key in own])

    def forget(self, host: str) -> None:
        """Knows no key of the host any more."""
        if self._lines_of(host):
            self._replace(host, [])

    def _own(self, machine_id: str) -> str:
        return f"omtd:own:{machine_id[:12]}:{self.operator_mark()}"

    def _first(self, machine_id: str) -> str:
        return f"omtd:first:{machine_id[:12]}:{self.operator_mark()}"

    def _lines(self) -> list[str]:
        try:
            return self.known_hosts.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _lines_of(self, host: str) -> list[str]:
        return [line for line in self._lines() if host in line.partition(" ")[0].split(",")]

    def _replace(self, host: str, lines: t.Iterable[str]) -> None:
        with self._locked():
            kept = [line for line in self._lines() if host not in line.partition(" ")[0].split(",")]
            fresh = self.known_hosts.with_suffix(".new")
            fresh.write_text("".join(f"{line}\n" for line in [*kept, *lines]), encoding="utf-8")
            fresh.replace(self.known_hosts)

    @contextlib.contextmanager
    def _locked(self) -> t.Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._thread_lock, (self.folder / "lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


@dataclasses.dataclass(frozen=True)
class Door:
    """Where a machine lets the operator in."""

    host: str
    address: str
    machine_id: str
    user: str = "debian"
    port: int = 22


class Contact:
    """Meets machines over ssh."""

    def __init__(self, keys: SiteKeys, limit_seconds: int = SSH_LIMIT_SECONDS) -> None:
        self.keys = keys
        self.limit_seconds = limit_seconds

    def meet(self, door: Door, user_data: str, report: base.Report) -> None:
        """Steps 2 and 3. Raises CloudError when the machine does not answer, or cannot prove who it is."""
        self.wait(door)
        report("answers ssh")
        if user_data:
            self.run(door, USER_DATA.format(script=user_data))
            report("has run its user_data")
        own = [_public(line) for line in self.run(door, MAKE_OWN_KEYS).splitlines() if line.strip()]
        if not own:
            raise base.CloudError(f"{door.host}: made no host keys")
        self.keys.pin_both(door.host, door.address, door.machine_id, own)
        self.run(door, USE_OWN_KEYS)
        self.keys.pin_own(door.host, door.address, door.machine_id, own)
        self.wait(door)
        report("uses host keys of its own")

    def wait(self, door: Door) -> None:
        """Waits until the operator can log in."""
        deadline = time.monotonic() + self.limit_seconds
        while True:
            done = self.attempt(door, "true")
            if done.returncode == 0:
                return
            said = done.stderr.decode(errors="replace").strip()
            if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said or "Host key verification failed" in said:
                raise base.CloudError(
                    f"{door.host}: {door.address} shows another host key than the one in {self.keys.known_hosts}; "
                    f"find out why before you trust it, or make the machine anew with replace: [{door.host}]"
                )
            if time.monotonic() > deadline:
                last = said.splitlines()[-1] if said else "no answer"
                raise base.CloudError(
                    f"{door.host}: {door.address} does not let {door.user} in after {self.limit_seconds} s: {last}"
                )
            time.sleep(POLL_SECONDS)

    def run(self, door: Door, script: str) -> str:
        """The output of a shell script that root runs on the machine."""
        done = self.attempt(door, "sudo -n sh -s", script)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise base.CloudError(f"{door.host}: {' '.join(said[-2:]) or f'exit {done.returncode}'}")
        return done.stdout.decode(errors="replace")

    def attempt(self, door: Door, command: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "GlobalKnownHostsFile": os.devnull,
            "HostKeyAlias": door.host,
            "CheckHostIP": "no",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "UserKnownHostsFile": f'"{self.keys.known_hosts}"',
            "ServerAliveInterval": "10",
        }
        words = ["ssh", "-F", os.devnull, "-i", str(self.keys.identity_file), "-p", str(door.port)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        try:
            return subprocess.run(
                [*words, f"{door.user}@{door.address}", command],
                input=stdin.encode(),
                capture_output=True,
                check=False,
                timeout=self.limit_seconds * 10,
            )
        except FileNotFoundError as exc:
            raise base.CloudUnavailableError("ssh: is not installed; apt-get install openssh-client") from exc
        except subprocess.TimeoutExpired as exc:
            raise base.CloudError(f"{door.host}: did not finish in {self.limit_seconds * 10} s") from exc
