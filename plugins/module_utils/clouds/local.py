# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This computer, for clouds that make machines on it: its commands, its kernel, and locks that end with a process."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import resource
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

from . import base

COMMAND_LIMIT_SECONDS = 120
STRAGGLER_LIMIT_SECONDS = 120
"""How long a new run waits for commands that a killed run left behind. The slowest, a container that is started on
a busy computer, took 8 s."""

# A command outlives a caller that is killed, in a session of its own. It holds a shared lock meanwhile, so that the
# next caller can wait for its end; it does not hand the lock on to what it starts, as a container's monitor would keep
# it for ever.
WITH_LOCK = 'exec 9>>"$0" && flock --shared 9 && "$@" 9>&-'


@dataclasses.dataclass
class Computer:
    """Runs commands on this computer, as root where that is asked for. ``straggler_lock`` is held by every command that
    changes something."""

    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    straggler_lock: Path | None = None

    def run(
        self,
        command: t.Sequence[str],
        purpose: str,
        *,
        stdin: str | bytes = "",
        limit_seconds: int = COMMAND_LIMIT_SECONDS,
        root: bool = False,
        changes: bool = False,
    ) -> str:
        """The output of a command. Raises CloudError that tells the purpose and what the command said."""
        done = self.attempt(command, stdin=stdin, limit_seconds=limit_seconds, root=root, changes=changes)
        if done.returncode:
            said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
            # podman warns on every call of things that do not matter; its errors come last
            errors = [line for line in said if "level=warning" not in line] or said
            words = " ".join(errors[-3:]).removeprefix("Error: ") or f"exit {done.returncode}"
            raise base.CloudError(f"{Path(command[0]).name}: cannot {purpose}: {words}")
        return done.stdout.decode(errors="replace")

    def attempt(
        self,
        command: t.Sequence[str],
        *,
        stdin: str | bytes = "",
        limit_seconds: int = COMMAND_LIMIT_SECONDS,
        root: bool = False,
        changes: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a command that may fail. Raises CloudError only when it is not there or does not end."""
        words = list(command)
        if changes and self.straggler_lock:
            words = ["sh", "-c", WITH_LOCK, str(self.straggler_lock), *words]
        if root and os.geteuid() != 0:
            words = ["sudo", "-n", "env", *(f"{key}={value}" for key, value in self.environment.items()), *words]
        try:
            return subprocess.run(
                words,
                input=stdin.encode() if isinstance(stdin, str) else stdin,
                capture_output=True,
                timeout=limit_seconds,
                check=False,
                env={**os.environ, **self.environment},
                # Ctrl-C and a dying terminal reach a whole process group, and a podman that is killed while it starts
                # a container leaves its address allocated until the computer reboots (seen with podman 4.3).
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            raise base.CloudUnavailableError(f"{words[0]}: is not installed on this computer") from exc
        except subprocess.TimeoutExpired as exc:
            raise base.CloudError(f"{' '.join(command[:3])}: did not end in {limit_seconds} s") from exc


# --------------------------------------------------------------------------------------------------- the kernel


def only_cgroup_v2(mounts: str) -> bool:
    """Whether /proc/mounts shows a computer that has cgroup v2 and nothing of v1."""
    types = {fields[2] for fields in (line.split() for line in mounts.splitlines()) if len(fields) > 2}
    return "cgroup2" in types and "cgroup" not in types


def open_file_limits() -> dict[str, int]:
    """The limits that a machine can be given: podman fails where it would have to raise them. It lowers its own number
    of processes to the highest process id before it starts a container."""
    highest = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    wanted = {"nofile": (resource.RLIMIT_NOFILE, 1048576), "nproc": (resource.RLIMIT_NPROC, min(highest, 65536))}
    result = {}
    for name, (number, most) in wanted.items():
        hard = resource.getrlimit(number)[1]
        result[name] = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return result


def raise_kernel_limit(computer: Computer, name: str, least: int, why: str, report: base.Report) -> None:
    """Sees that a limit of the kernel (a sysctl) is at least ``least``, until the next reboot. Raises CloudError."""
    path = Path("/proc/sys") / name.replace(".", "/")
    value = int(path.read_text(encoding="ascii"))
    if value < least:
        computer.run(["sysctl", "-q", "-w", f"{name}={least}"], f"set {name}={least}, which {why} needs", root=True)
        report(f"raised {name} from {value} to {least} until the next reboot, for {why}")


def memory_mib() -> int:
    """The memory of this computer in MiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20


def missing(commands: t.Mapping[str, t.Sequence[str]]) -> list[str]:
    """Of {package: paths or commands, one of which it brings}, the packages that are not installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return [
        package
        for package, candidates in commands.items()
        if not any(shutil.which(candidate, path=path) for candidate in candidates)
    ]


# -------------------------------------------------------------------------------------------------------- locks


def run_folder() -> Path:
    """Where this computer keeps what must not survive a reboot."""
    own = os.environ.get("XDG_RUNTIME_DIR") or str(Path("~/.cache").expanduser())
    folder = (Path("/run") if os.geteuid() == 0 else Path(own)) / "omtd-workflow"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def process_start(pid: int) -> str:
    """When a process was started, in ticks since boot; '' when there is none. A pid alone is used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


class HostLock:
    """The lock of a site whose cloud is this computer: a record with holder, process and expiry.

    It ends when it is released, when it expires, and when its process does.
    """

    def __init__(self, site: str, holder: str, seconds: int, folder: Path | None = None) -> None:
        self.path = (folder or run_folder()) / f"{site}.lock"
        self.seconds = seconds
        self.record = {"holder": holder, "pid": os.getpid(), "started": process_start(os.getpid())}
        with self._guard():
            other = self._read()
            if other and not self._is_ours(other):
                left = int(other["expires"] - time.time())
                raise base.CloudError(
                    f"site {site}: {other['holder']} is changing it at the moment (process {other['pid']}, for at most "
                    f"{left} s more); wait until that has ended"
                )
            self._write()

    def renew(self) -> None:
        """Prolongs the lock. Raises CloudError when somebody else has it meanwhile."""
        with self._guard():
            other = self._read()
            if other and not self._is_ours(other):
                raise base.CloudError(
                    f"{other['holder']} took the lock {self.path}: stopped, so that two do not change one site"
                )
            self._write()

    def release(self) -> None:
        with contextlib.suppress(OSError), self._guard():
            if self._is_ours(self._read() or {}):
                self.path.unlink(missing_ok=True)

    def wait_for_stragglers(self, straggler_lock: Path, report: base.Report) -> None:
        """Waits until commands have ended that a killed run left behind. Raises CloudError when they do not."""
        deadline = time.monotonic() + STRAGGLER_LIMIT_SECONDS
        told = False
        with straggler_lock.open("a") as stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    if time.monotonic() > deadline:
                        raise base.CloudError(
                            f"{straggler_lock}: commands of an earlier run do not end; look for them with ps"
                        ) from None
                    if not told:
                        report("waits for commands of a run that was stopped")
                        told = True
                    time.sleep(0.1)
                else:
                    return

    @contextlib.contextmanager
    def _guard(self) -> t.Iterator[None]:
        with self.path.with_suffix(".guard").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _is_ours(self, record: t.Mapping[str, t.Any]) -> bool:
        return all(record.get(key) == value for key, value in self.record.items())

    def _read(self) -> dict[str, t.Any] | None:
        """The record of a holder that still counts."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            alive = process_start(int(record["pid"])) == record["started"] != ""
            return record if alive and float(record["expires"]) > time.time() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({**self.record, "expires": time.time() + self.seconds}), encoding="utf-8")
        fresh.replace(self.path)
