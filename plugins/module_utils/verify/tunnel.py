# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way to an address that only a host of the site may ask: a local port forwarded through ssh."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import time
import typing as t

WAIT_SECONDS = 20
LOOPBACK = "127.0.0.1"


class TunnelError(Exception):
    """The way could not be opened; the message says why."""


class Destination(t.NamedTuple):
    """How ssh reaches a host, in the words of Ansible's ssh connection."""

    host: str
    port: int = 22
    user: str = ""
    identity_file: str = ""
    common_args: str = ""
    extra_args: str = ""
    executable: str = "ssh"


def command(destination: Destination, local_port: int, address: str) -> list[str]:
    """Give the command that forwards a local port to address (host:port) as seen from the destination."""
    words = [destination.executable, *shlex.split(destination.common_args), *shlex.split(destination.extra_args)]
    words += ["-N", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=10"]
    # A connection of its own: one that Ansible shares may be closed under us.
    words += ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ServerAliveInterval=15"]
    words += ["-p", str(destination.port)]
    if destination.identity_file:
        words += ["-i", destination.identity_file]
    if destination.user:
        words += ["-l", destination.user]
    return [*words, "-L", f"{LOOPBACK}:{local_port}:{address}", destination.host]


def free_port() -> int:
    """Give a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Say whether somebody listens on a port of the loopback address."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def tunnel(destination: Destination, address: str) -> t.Iterator[int]:
    """Keep a local port forwarded to an address as seen from the destination; give the port. TunnelError when ssh
    does not get there."""
    port = free_port()
    words = command(destination, port, address)
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while not answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    _out, err = process.communicate(timeout=5)
                    last = " ".join(err.strip().splitlines()[-2:]) or f"no answer in {WAIT_SECONDS} s"
                    raise TunnelError(f"{destination.host}: ssh cannot forward a port to {address}: {last}")
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
