#!/usr/bin/env python3
"""Makes the image of the text-mining component, and keeps it in a registry while somebody needs it.

image.py key      SOURCES                      the content address of the image
image.py build    SOURCES TAR                  the image, unless TAR is there
image.py acquire  TAR REGISTRY REPOSITORY …    push it unless the registry has it; note that a run needs it
image.py release  REGISTRY REPOSITORY …        the run is over; the last one takes the tag away

Runs on a host of the site with nothing but Debian's or Ubuntu's python3, apt and dpkg: packages come from the host's
own apt sources and are checked by apt, wheels are checked against the lock. Nothing is installed on the host, no
maintainer script runs, and no container engine is needed. Two builds from the same packages give the same bytes.

Every command prints one JSON object on stdout, and on stderr what it does and, last, why it could not.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import typing as t
import urllib.parse
from pathlib import Path

# A change of the recipe below that changes the image must change this number: it is part of the content address.
RECIPE = 1
PACKAGES = ("bash", "coreutils", "dash", "libpython3-stdlib", "libstdc++6", "python3-minimal", "zlib1g")
# In the closure of the above, and of no use in a container that only runs Python.
UNUSED_PACKAGES = frozenset(
    ("adduser", "debconf", "dpkg", "libdb5.3", "media-types", "mime-support", "netbase", "passwd", "perl-base", "tar")
)
UNUSED_FILES = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*", "./var/*")
UNUSED_LIBRARY_PARTS = ("tests", "testing/tests", "__pycache__")
PYTHON = "/usr/bin/python3"
COMPONENT_FOLDER = "opt/omtd"
COMMAND = "usr/local/bin/textmining"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
COMMAND_LIMIT_SECONDS = 600
REGISTRY_LIMIT_SECONDS = 60
BUSY_WAITS_SECONDS = (5, 20, 45)
CHUNK = 1 << 20
# How long after a run asked for the image the platform knows of the run, at the latest
PREPARATION_SECONDS = 1800


class ImageError(Exception):
    """What an operator can put right; the message is for them."""


def say(line: str) -> None:
    """Tell what happens, on stderr: stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


def run(*words: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a command; ImageError with its last lines when it fails."""
    command = [str(word) for word in words]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_LIMIT_SECONDS,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ImageError(f"{command[0]}: did not end in {COMMAND_LIMIT_SECONDS} s; is the network up?") from exc
    if done.returncode:
        last = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise ImageError(f"{' '.join(command[:3])} …: exit code {done.returncode}: {last}")
    return done.stdout


# ----------------------------------------------------------------------------------------------------------- what it is


def release_of_host() -> str:
    """Give the code name of the host's distribution: the image is made of its packages."""
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _equals, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise ImageError("/etc/os-release: has no VERSION_CODENAME; build on a host with Debian or Ubuntu")


def content_address(sources: Path, release: str, architecture: str) -> str:
    """Give 16 hexadecimal digits that name everything the image is made of, except the patch level of packages."""
    parts = [str(RECIPE), release, architecture, *PACKAGES]
    digest = hashlib.sha256("\n".join(parts).encode())
    for name in ("textmining.py", "requirements.txt"):
        digest.update(b"\0" + hashlib.sha256((sources / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def address_here(sources: Path) -> str:
    """Give the content address of the image that this host makes."""
    return content_address(sources, release_of_host(), architecture_of_host())


# ------------------------------------------------------------------------------------------------------------ the build


def download_packages(folder: Path, *names: str) -> list[Path]:
    """Download packages and all they depend on, with the host's apt; give the .deb files in the order of their names.

    An empty status file makes apt think that nothing is installed, so that it names the whole closure.
    """
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    status = folder / "status"
    status.touch()
    run(
        "apt-get",
        *("--yes", "--quiet", "--no-install-recommends", "--download-only"),
        *("-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={archives}"),
        *("-o", f"Dir::State::extended_states={folder / 'extended_states'}", "-o", "Debug::NoLocking=true"),
        *("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "APT::Sandbox::User="),
        *("install", *names),
    )
    return sorted(archives.glob("*.deb"))


def unpack(packages: list[Path], root: Path, excluded: t.Iterable[str] = ()) -> list[str]:
    """Unpack packages below a folder with merged /usr; give name=version of each."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    unpacked = []
    for package in packages:
        name, version = run("dpkg-deb", "--show", "--showformat", "${Package} ${Version}", package).split()
        if name in UNUSED_PACKAGES:
            continue
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as source:
            words: list[str | Path] = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root]
            words += [f"--exclude={pattern}" for pattern in excluded]
            code = subprocess.run(words, stdin=source.stdout, timeout=COMMAND_LIMIT_SECONDS, check=False).returncode
        if code or source.returncode:
            raise ImageError(f"{package.name}: cannot be unpacked; is the disk full?")
        unpacked.append(f"{name}={version}")
    return unpacked


def make_base(work: Path) -> tuple[Path, list[str]]:
    """Make the root file system with Python; give it with the packages it is made of."""
    say("packages of the base, from this host's apt sources")
    root = work / "base"
    packages = unpack(download_packages(work / "base-packages", *PACKAGES), root, UNUSED_FILES)
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")
    for folder in ("etc", "home", "proc", "sys", "dev", "run", "var/tmp", "tmp"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).chmod(0o1777)
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    )
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    for path in (root / "usr").rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(path.stat().st_mode & 0o755)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not (root / "usr/bin" / version).exists():
        raise ImageError(f"{PYTHON}: is not the distribution's ({version}); build on a host with its own python3")
    compile_python(root / "usr/lib" / version, f"/usr/lib/{version}")
    return root, packages


def compile_python(folder: Path, shown_as: str) -> None:
    """Compile Python's files once, in a way that depends on their content alone: a container would do it at every
    start, and keep nothing."""
    words = [PYTHON, "-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash"]
    # A few files of the standard library's tests do not compile on purpose: the exit code says nothing.
    subprocess.run(
        [*words, "-s", folder, "-p", shown_as, folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=COMMAND_LIMIT_SECONDS,
        check=False,
    )


def make_component(work: Path, sources: Path) -> Path:
    """Make the layer with the component and its libraries, as locked."""
    say("libraries of the component, as locked")
    root = work / "component"
    libraries = root / COMPONENT_FOLDER / "lib"
    libraries.mkdir(parents=True)
    # pip is unpacked beside the image, not installed on the host; its settings (index, CA) are the host's.
    tools = work / "tools"
    unpack(download_packages(work / "tools-packages", "python3-pip"), tools)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = os.pathsep.join(str(tools / "usr/lib" / name) for name in ("python3/dist-packages", version))
    run(
        *(PYTHON, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", "--no-compile"),
        *("--root-user-action", "ignore", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--target", libraries, "--requirement", sources / "requirements.txt"),
        environment={"PYTHONPATH": path},
    )
    shutil.rmtree(libraries / "bin", ignore_errors=True)
    for part in UNUSED_LIBRARY_PARTS:
        for folder in sorted(libraries.rglob(part), reverse=True):
            if folder.is_dir():
                shutil.rmtree(folder)
    shutil.copyfile(sources / "textmining.py", root / COMPONENT_FOLDER / "textmining.py")
    compile_python(root / COMPONENT_FOLDER, f"/{COMPONENT_FOLDER}")
    command = root / COMMAND
    command.parent.mkdir(parents=True)
    # The hash seed is fixed so that the order of sets, and with it the choice between equals, never changes.
    command.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPATH=/{COMPONENT_FOLDER}/lib PYTHONHASHSEED=0 OPENBLAS_NUM_THREADS=1\n"
        f'exec {PYTHON} /{COMPONENT_FOLDER}/textmining.py "$@"\n'
    )
    command.chmod(0o755)
    return root


def make_layer(root: Path, path: Path) -> dict[str, t.Any]:
    """Pack a folder as a layer whose bytes depend on its files alone; give its digests and sizes."""
    uncompressed = hashlib.sha256()
    size = 0

    class Tee(io.RawIOBase):
        """Hashes what the tar writer writes on its way into gzip."""

        def __init__(self, target: t.BinaryIO) -> None:
            self.target = target

        def writable(self) -> bool:
            return True

        def write(self, chunk: t.Any) -> int:
            nonlocal size
            uncompressed.update(chunk)
            size += len(chunk)
            return self.target.write(chunk)

    with (
        path.open("wb") as compressed,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=compressed, mtime=0) as packed,
        tarfile.open(fileobj=Tee(t.cast(t.BinaryIO, packed)), mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for entry in sorted(root.rglob("*")):
            info = tar.gettarinfo(entry, str(entry.relative_to(root)))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = 0
            if info.islnk():
                # Files that were one file stay two: their order on disk must not show in the image.
                info.type, info.size = tarfile.REGTYPE, entry.stat().st_size
            if info.isreg():
                with entry.open("rb") as content:
                    tar.addfile(info, content)
            else:
                tar.addfile(info)
    return {
        "diff_id": f"sha256:{uncompressed.hexdigest()}",
        "digest": f"sha256:{hash_file(path)}",
        "size": path.stat().st_size,
        "unpacked": size,
    }


def hash_file(path: Path) -> str:
    """Give the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def as_json(value: t.Any) -> bytes:
    """Write a value as JSON, always the same way."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def build(sources: Path, target: Path) -> None:
    """Make the image as a tar that `docker load` takes, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as name:
        work = Path(name)
        base, packages = make_base(work)
        component = make_component(work, sources)
        say("layers")
        layers = [make_layer(root, work / f"{root.name}.tar.gz") for root in (base, component)]
        architecture = architecture_of_host()
        config = as_json(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {
                    "Cmd": ["textmining", "--help"],
                    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"],
                    "Labels": {
                        "org.omtd.workflow.component": "textmining",
                        "org.omtd.workflow.key": content_address(sources, release_of_host(), architecture),
                        "org.omtd.workflow.packages": " ".join(packages),
                        "org.omtd.workflow.python": f"{sys.version_info.major}.{sys.version_info.minor}",
                    },
                },
                "rootfs": {"type": "layers", "diff_ids": [layer["diff_id"] for layer in layers]},
                "history": [{"created_by": "omtd.workflow: base"}, {"created_by": "omtd.workflow: component"}],
            }
        )
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        (work / config_name).write_bytes(config)
        index = [
            {
                "Config": config_name,
                "RepoTags": [f"omtd-verify/textmining:{address_here(sources)}"],
                "Layers": [f"{root.name}.tar.gz" for root in (base, component)],
            }
        ]
        (work / "manifest.json").write_bytes(as_json(index))
        unfinished = work / "image.tar"
        with tarfile.open(unfinished, "w") as tar:
            for member in ("manifest.json", config_name, "base.tar.gz", "component.tar.gz"):
                tar.add(work / member, member, filter=without_times)
        unfinished.replace(target)


def without_times(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Give a member of a tar without who packed it and when."""
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def architecture_of_host() -> str:
    """Give the host's architecture in Debian's word, which for the usual ones is the image format's word too."""
    return run("dpkg", "--print-architecture").strip()


# ------------------------------------------------------------------------------------------------------ the saved image


class SavedImage:
    """An image in a tar, read piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with tarfile.open(path) as tar:
            index = json.loads(self._read(tar, "manifest.json"))[0]
            self.config = self._read(tar, index["Config"])
            self.layers: list[str] = index["Layers"]
            self.sizes = {name: tar.getmember(name).size for name in self.layers}

    @staticmethod
    def _read(tar: tarfile.TarFile, name: str) -> bytes:
        source = tar.extractfile(name)
        if source is None:
            raise ImageError(f"the saved image: {name} is not a file; remove the tar, the next run makes it again")
        return source.read()

    @contextlib.contextmanager
    def open_layer(self, name: str) -> t.Iterator[t.BinaryIO]:
        """Open one layer's compressed bytes."""
        with tarfile.open(self.path) as tar:
            source = tar.extractfile(name)
            assert source is not None  # noqa: S101 - sizes were read from it already
            yield t.cast(t.BinaryIO, source)

    def layer_digest(self, name: str) -> str:
        """Give the digest of one layer's compressed bytes."""
        digest = hashlib.sha256()
        with self.open_layer(name) as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
        return f"sha256:{digest.hexdigest()}"

    def manifest(self) -> bytes:
        """Give the manifest that a registry keeps."""
        return as_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"mediaType": CONFIG_TYPE, "size": len(self.config), "digest": digest_of(self.config)},
                "layers": [
                    {"mediaType": LAYER_TYPE, "size": self.sizes[name], "digest": self.layer_digest(name)}
                    for name in self.layers
                ],
            }
        )


def digest_of(content: bytes) -> str:
    """Give the digest of bytes as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# --------------------------------------------------------------------------------------------------------- the registry


class Registry:
    """The registry's HTTP API (distribution spec v2), over TLS that is verified, with a user's password."""

    def __init__(self, address: str, user: str, password: str, authority: str = "") -> None:
        self.address = address
        self.context = ssl.create_default_context(cafile=authority or None)
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.user = user
        self.headers = {"Authorization": f"Basic {token}"}

    def call(
        self,
        method: str,
        path: str,
        body: bytes | t.BinaryIO | None = None,
        headers: dict[str, str] | None = None,
        expected: tuple[int, ...] = (200,),
    ) -> tuple[int, http.client.HTTPMessage]:
        """Make one request; give status and headers. ImageError says which rule of the registry was met.

        A registry that collects unused blobs answers writers with 503 for a minute: they are asked to come again.
        """
        for wait in (*BUSY_WAITS_SECONDS, 0):
            status, answered, content = self._ask(method, path, body, headers)
            if status != 503 or not wait:
                break
            say(f"the registry is busy ({content}); again in {wait} s")
            time.sleep(wait)
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
        if status == 401:
            raise ImageError(
                f"https://{self.address}: refuses the password of the user {self.user}; it must be the one that the"
                " playbook site installed"
            )
        if status not in expected:
            raise ImageError(f"https://{self.address}{path}: {method} was answered {status}: {content}")
        return status, answered

    def _ask(
        self, method: str, path: str, body: bytes | t.BinaryIO | None, headers: dict[str, str] | None
    ) -> tuple[int, http.client.HTTPMessage, str]:
        connection = http.client.HTTPSConnection(self.address, timeout=REGISTRY_LIMIT_SECONDS, context=self.context)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read(4096)
        except ssl.SSLCertVerificationError as exc:
            raise ImageError(
                f"https://{self.address}: its certificate is not trusted ({exc.verify_message}); run the playbook site,"
                " which makes hosts trust the site's authority"
            ) from exc
        except OSError as exc:
            raise ImageError(
                f"https://{self.address}: the registry does not answer ({exc}); look at docker-registry on its host"
            ) from exc
        finally:
            connection.close()
        return answer.status, answer.headers, content.decode(errors="replace").strip()[:300]

    def digest(self, repository: str, tag: str) -> str:
        """Give the digest of a tag's manifest, '' when the registry does not have it."""
        status, headers = self.call(
            "HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST_TYPE}, expected=(200, 404)
        )
        return headers.get("Docker-Content-Digest", "") if status == 200 else ""

    def push(self, image: SavedImage, repository: str, tag: str) -> str:
        """Push an image; layers that are there are not sent again. Give the digest of its manifest."""
        manifest = image.manifest()
        described = json.loads(manifest)
        for name, layer in zip(image.layers, described["layers"], strict=True):
            with image.open_layer(name) as content:
                self._push_blob(repository, layer["digest"], layer["size"], content)
        config = described["config"]
        self._push_blob(repository, config["digest"], config["size"], io.BytesIO(image.config))
        self.call(
            "PUT", f"/v2/{repository}/manifests/{tag}", manifest, {"Content-Type": MANIFEST_TYPE}, expected=(201,)
        )
        return digest_of(manifest)

    def _push_blob(self, repository: str, digest: str, size: int, content: t.BinaryIO) -> None:
        status, _headers = self.call("HEAD", f"/v2/{repository}/blobs/{digest}", expected=(200, 404))
        if status == 200:
            return
        say(f"pushing {digest[:19]}, {size / 2**20:.1f} MiB")
        _status, headers = self.call(
            "POST", f"/v2/{repository}/blobs/uploads/", b"", {"Content-Length": "0"}, expected=(202,)
        )
        place = urllib.parse.urlsplit(headers["Location"])
        query = urllib.parse.urlencode([*urllib.parse.parse_qsl(place.query), ("digest", digest)])
        self.call(
            "PUT",
            f"{place.path}?{query}",
            content,
            {"Content-Length": str(size), "Content-Type": "application/octet-stream"},
            expected=(201,),
        )

    def delete(self, repository: str, tag: str) -> str:
        """Take a tag away by its manifest; give what became of it: deleted, absent, or refused."""
        digest = self.digest(repository, tag)
        if not digest:
            return "absent"
        status, _headers = self.call("DELETE", f"/v2/{repository}/manifests/{digest}", expected=(202, 404, 405))
        return {202: "deleted", 404: "absent", 405: "refused"}[status]


# --------------------------------------------------------------------------------------------------------- who needs it


class Leases:
    """Which runs need the image in the registry: one file a run, with the second at which it is over anyway.

    Several runs share the image. The first pushes it, the last takes it away; a lock makes both one step, so that
    none takes away what another has just found.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self) -> t.Iterator[None]:
        """Hold the lock; everybody else waits."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def add(self, run_name: str, seconds: int, now: float) -> None:
        """Note that a run needs the image for so many seconds."""
        (self.folder / run_name).write_text(f"{int(now) + seconds}\n")

    def remove(self, run_name: str) -> None:
        """A run is over."""
        (self.folder / run_name).unlink(missing_ok=True)

    def current(self, now: float, live: list[str] | None = None) -> list[str]:
        """Give the runs that need the image, and forget those that were interrupted: their time is over, or they are
        not among the live ones (None: nobody knows) and began so long ago that they would be."""
        names = []
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                over = int(path.read_text()) <= now
            except ValueError:
                over = True
            if live is not None and path.name not in live:
                over = over or path.stat().st_mtime + PREPARATION_SECONDS < now
            if over:
                path.unlink(missing_ok=True)
            else:
                names.append(path.name)
        return names


# ------------------------------------------------------------------------------------------------------------- commands


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="image.py")
    commands = parser.add_subparsers(dest="command", required=True)
    key = commands.add_parser("key")
    key.add_argument("sources", type=Path)
    make = commands.add_parser("build")
    make.add_argument("sources", type=Path)
    make.add_argument("tar", type=Path)
    for name in ("acquire", "release"):
        part = commands.add_parser(name)
        if name == "acquire":
            part.add_argument("tar", type=Path)
            part.add_argument("--seconds", type=int, default=7200)
        else:
            part.add_argument("--live", help="runs that the platform says go on, with commas between them")
        part.add_argument("registry")
        part.add_argument("repository")
        part.add_argument("tag")
        part.add_argument("--run", required=True)
        part.add_argument("--leases", type=Path, required=True)
        part.add_argument("--user", required=True)
        part.add_argument("--authority", default="")
        part.add_argument("--password-file", type=Path, required=True)
    return parser.parse_args(words)


def do(arguments: argparse.Namespace) -> dict[str, t.Any]:
    """Run one command; give its result."""
    if arguments.command == "key":
        return {"key": address_here(arguments.sources)}
    if arguments.command == "build":
        found = arguments.tar.exists()
        if not found:
            build(arguments.sources, arguments.tar)
        image = SavedImage(arguments.tar)
        return {"built": not found, "mib": round(sum(image.sizes.values()) / 2**20, 1)}
    password = arguments.password_file.read_text().strip()
    registry = Registry(arguments.registry, arguments.user, password, arguments.authority)
    leases = Leases(arguments.leases)
    with leases.locked():
        if arguments.command == "acquire":
            leases.add(arguments.run, arguments.seconds, time.time())
            digest = registry.digest(arguments.repository, arguments.tag)
            if digest:
                return {"pushed": False, "digest": digest}
            return {
                "pushed": True,
                "digest": registry.push(SavedImage(arguments.tar), arguments.repository, arguments.tag),
            }
        leases.remove(arguments.run)
        others = leases.current(time.time(), None if arguments.live is None else arguments.live.split(","))
        if others:
            return {"image": "needed", "by": others}
        return {"image": registry.delete(arguments.repository, arguments.tag), "by": []}


def main(words: list[str]) -> int:
    """Run one command; 0 when it went well."""
    try:
        print(json.dumps(do(parse(words))))
    except (ImageError, OSError, tarfile.TarError) as exc:
        say(" ".join(str(exc).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
