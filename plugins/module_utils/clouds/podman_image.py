# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that machines of the podman cloud start from: Debian with systemd, made by mmdebstrap on this computer.

It is made once, and again when its recipe changes: the name of the image ends with a digest of everything that goes
into it. The sources of packages are the computer's own, and so are extra CA certificates and settings of pip: where
the computer sits behind a proxy that inspects TLS, its machines do too.
"""

from __future__ import annotations

import configparser
import dataclasses
import hashlib
import json
import re
import shlex
import time
import typing as t
from pathlib import Path

from . import base
from .local import Computer

RELEASES = {"debian-12": "bookworm", "debian-13": "trixie"}
"""Images that can be made: the name in the fleet file, and the release of it."""

REPOSITORY = "localhost/omtd-machine"
LABEL = "omtd_image"
BUILD_LIMIT_SECONDS = 900
"""33 s were measured on two cores with a near mirror; a slow mirror may need minutes."""

UNUSED_AFTER_SECONDS = 7 * 86400

PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,python3,python3-apt,iproute2,openssh-server,ca-certificates,sudo,procps,"
    "iptables,nftables"
)
CA_FOLDER = Path("/usr/local/share/ca-certificates")
PIP_FILES = (Path("/etc/pip.conf"), Path("~/.config/pip/pip.conf"), Path("~/.pip/pip.conf"))
PIP_KEYS = ("cert", "index-url", "extra-index-url", "trusted-host", "proxy", "timeout")

INIT = "/usr/local/sbin/omtd-machine-init"

# With cgroup v1 podman lays the computer's own name=systemd hierarchy over the machine's part of it, so that the
# systemds of all machines would share the groups of their units, and mounts the other hierarchies read-only.
# Both are put right before systemd looks. With cgroup v2 there is nothing to do.
INIT_SCRIPT = """\
#!/bin/sh
if [ -d /sys/fs/cgroup/systemd ]; then
  umount /sys/fs/cgroup/systemd/release_agent
  umount /sys/fs/cgroup/systemd
  while read -r _ folder type _; do
    if [ "$type" = cgroup ]; then mount -o remount,bind,rw "$folder"; fi
  done < /proc/mounts
fi
exec /lib/systemd/systemd "$@"
"""

# The archive folder of a machine is an overlay: below it the archives that all machines share, above it its own.
# What it downloads goes below too, whole and under its final name, for the machines to come.
SHARE_ARCHIVES = """\
#!/bin/sh
# Hands downloaded packages on to the other machines of this computer.
shared=/var/cache/omtd/apt/@RELEASE@
[ -d "$shared" ] || exit 0
for archive in /var/cache/apt/archives/*.deb; do
  name=${archive##*/}
  [ -e "$archive" ] && [ ! -e "$shared/$name" ] || continue
  cp "$archive" "$shared/.$name.$(hostname).$$" && mv -f "$shared/.$name.$(hostname).$$" "$shared/$name"
done
exit 0
"""

APT_CONFIGURATION = """\
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Binary::apt::APT::Keep-Downloaded-Packages "true";
DPkg::Post-Invoke { "/usr/local/lib/omtd-share-archives"; };
"""

# Runs once, with the root of the new machine as $1 and prepared files as $OMTD_STAGE.
CUSTOMISE = """\
set -eu
cp -r "$OMTD_STAGE/." "$1/"
chmod 0755 "$1/usr/local/lib/omtd-share-archives" "$1@INIT@"
chroot "$1" update-ca-certificates >/dev/null 2>&1
chroot "$1" useradd --create-home --shell /bin/bash debian
chmod 0440 "$1/etc/sudoers.d/90-debian"
mkdir -p "$1/var/cache/omtd"
for unit in systemd-modules-load.service systemd-udev-trigger.service; do
  ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/hostname" "$1/etc/resolv.conf"
: > "$1/etc/machine-id"
""".replace("@INIT@", INIT)

# Everything in one process under one lock: when its caller is killed it ends by itself, and nobody builds beside it.
BUILD = """\
set -eu
podman="$1" image="$2" release="$3" work="$4" label="$5"
if $podman image exists "$image"; then exit 0; fi
rm -rf "$work/tmp"; mkdir -p "$work/tmp"
export TMPDIR="$work/tmp" OMTD_STAGE="$work/stage"
mmdebstrap --quiet --format=tar --variant=minbase --skip=cleanup/apt/lists --include="$6" \\
  --customize-hook="sh '$work/customise.sh' \\"\\$1\\"" "$release" "$work/tmp/root.tar" "$work/sources.list"
$podman import --quiet --change "LABEL $label=$release" "$work/tmp/root.tar" "$image" >/dev/null
rm -rf "$work/tmp"
"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that goes into an image. ``files`` are {path in the machine: content}."""

    release: str
    sources: str
    files: t.Mapping[str, str]

    @property
    def digest(self) -> str:
        """Changes when anything of the recipe changes."""
        content = [self.release, self.sources, PACKAGES, CUSTOMISE, BUILD]
        content += [f"{path}\0{text}" for path, text in sorted(self.files.items())]
        return hashlib.sha256("\0\0".join(content).encode()).hexdigest()[:12]

    @property
    def image(self) -> str:
        return f"{REPOSITORY}:{self.release}-{self.digest}"


def recipe(release: str, computer: Computer) -> Recipe:
    """The recipe of an image, from what this computer is. Raises CloudUnavailableError when it has no sources."""
    files = {
        INIT: INIT_SCRIPT,
        "/usr/local/lib/omtd-share-archives": SHARE_ARCHIVES.replace("@RELEASE@", release),
        "/etc/apt/apt.conf.d/90omtd-machine": APT_CONFIGURATION,
        "/etc/dpkg/dpkg.cfg.d/omtd-machine": "force-unsafe-io\n",
        "/etc/ssh/sshd_config.d/10-omtd-machine.conf": "PasswordAuthentication no\n",
        "/etc/sudoers.d/90-debian": "debian ALL=(ALL) NOPASSWD:ALL\n",
        "/etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    }
    for certificate in sorted(CA_FOLDER.glob("**/*.crt")):
        files[f"{CA_FOLDER}/{certificate.name}"] = certificate.read_text(encoding="utf-8", errors="replace")
    pip = pip_settings(path.expanduser() for path in PIP_FILES)
    if pip:
        files["/etc/pip.conf"] = pip
    return Recipe(release, sources(release, computer), files)


def sources(release: str, computer: Computer) -> str:
    """The lines of sources.list for a release, from the computer's own sources. Only their release is exchanged."""
    listed = computer.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Identifier: Packages",
            "Origin: Debian",
        ],
        "list the computer's package sources",
    )
    lines = set()
    for line in listed.splitlines():
        match = re.fullmatch(r"(?P<uri>\S+) [a-z]+(?P<suite>-security|-updates)? (?P<component>main)", line.strip())
        if match:
            lines.add(f"deb {match['uri']} {release}{match['suite'] or ''} {match['component']}")
    if not any(line.endswith(f" {release} main") for line in lines):
        raise base.CloudUnavailableError(
            "podman: this computer's apt knows no Debian packages to make machines of; "
            "run apt-get update, or use a computer with Debian 12 or 13"
        )
    return "\n".join(sorted(lines)) + "\n"


def pip_settings(paths: t.Iterable[Path]) -> str:
    """pip's settings as far as they mean something in another machine: no folders of this computer."""
    found: dict[str, str] = {}
    for path in paths:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for key in PIP_KEYS:
            values = parser.get("global", key, fallback="").split()
            kept = [value for value in values if key == "cert" or not value.startswith(("file:", "/", "."))]
            if kept:
                found[key] = "\n  ".join(kept)
    if "cert" in found:
        found["cert"] = "/etc/ssl/certs/ca-certificates.crt"
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in found.items()) if found else ""


def ensure(wanted: Recipe, podman: t.Sequence[str], computer: Computer, cache: Path, report: base.Report) -> str:
    """The name of the image, which is made when it is not there."""
    if wanted.image in images(podman, computer):
        return wanted.image
    report(f"making the image {wanted.image}, which takes a minute once")
    work = cache / "machine-images" / wanted.release
    stage = work / "stage"
    script = f"""
set -eu
rm -rf {shlex.quote(str(stage))}
mkdir -p {shlex.quote(str(work))}
"""
    for path, text in {
        **{f"stage{path}": text for path, text in wanted.files.items()},
        "sources.list": wanted.sources,
        "customise.sh": CUSTOMISE,
    }.items():
        quoted = shlex.quote(str(work / path))
        script += f'mkdir -p "$(dirname {quoted})"\n'
        script += f"cat > {quoted} <<'OMTD_END_OF_FILE'\n{text.rstrip()}\nOMTD_END_OF_FILE\n"
    script += BUILD
    work.parent.mkdir(parents=True, exist_ok=True)
    computer.run(
        [
            "flock",
            "--wait",
            str(BUILD_LIMIT_SECONDS),
            str(work.parent / f"{wanted.release}.lock"),
            "sh",
            "-s",
            shlex.join(podman),
            wanted.image,
            wanted.release,
            str(work),
            LABEL,
            PACKAGES,
        ],
        f"make the image {wanted.image}",
        stdin=script,
        limit_seconds=BUILD_LIMIT_SECONDS,
        root=True,
    )
    return wanted.image


def images(podman: t.Sequence[str], computer: Computer) -> dict[str, float]:
    """{name: seconds since the epoch when it was made} of the images that we made."""
    listed = computer.run(
        [*podman, "images", "--filter", f"label={LABEL}", "--format", "json"], "list images", root=True
    )
    return {name: float(image.get("Created") or 0) for image in json.loads(listed) for name in image.get("Names") or ()}


def remove_old(wanted: Recipe, podman: t.Sequence[str], computer: Computer) -> None:
    """Removes images of the same release that an older recipe made some time ago: a fresh one may be what another
    version of the collection makes machines of. One that a machine uses stays, podman sees to that."""
    for image, made in images(podman, computer).items():
        of_release = image.startswith(f"{REPOSITORY}:{wanted.release}-")
        if of_release and image != wanted.image and time.time() - made > UNUSED_AFTER_SECONDS:
            computer.attempt([*podman, "image", "rm", image], root=True)
