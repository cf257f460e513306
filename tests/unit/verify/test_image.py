"""The image: its name, its layers, its push to a registry, and who needs it."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

NOW = 1_800_000_000.0


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "component"
    folder.mkdir()
    (folder / "textmining.py").write_text("print()\n")
    (folder / "requirements.txt").write_text("yake==1\n")
    return folder


def test_the_address_changes_with_everything_the_image_is_made_of(image: ModuleType, sources: Path) -> None:
    first = image.content_address(sources, "bookworm", "amd64")
    others = {image.content_address(sources, "trixie", "amd64"), image.content_address(sources, "bookworm", "arm64")}
    (sources / "textmining.py").write_text("print(1)\n")
    others.add(image.content_address(sources, "bookworm", "amd64"))
    (sources / "textmining.py").write_text("print()\n")
    (sources / "requirements.txt").write_text("yake==2\n")
    others.add(image.content_address(sources, "bookworm", "amd64"))

    assert len(first) == 16
    assert len(others) == 4
    assert first not in others


def tree(root: Path, order: tuple[str, ...]) -> Path:
    for name in order:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (len(name), len(name)))
    (root / "link").symlink_to("b/file")
    return root


def test_a_layer_depends_on_its_files_alone(image: ModuleType, tmp_path: Path) -> None:
    layers = [
        image.make_layer(tree(tmp_path / name, order), tmp_path / f"{name}.tar.gz")
        for name, order in (("one", ("a", "b/file")), ("two", ("b/file", "a")))
    ]

    assert layers[0] == layers[1]
    content = (tmp_path / "one.tar.gz").read_bytes()
    assert layers[0]["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert layers[0]["diff_id"] == f"sha256:{hashlib.sha256(gzip.decompress(content)).hexdigest()}"
    with tarfile.open(tmp_path / "one.tar.gz") as tar:
        assert [(entry.name, entry.uid, entry.mtime) for entry in tar] == [
            ("a", 0, 0),
            ("b", 0, 0),
            ("b/file", 0, 0),
            ("link", 0, 0),
        ]


def test_files_that_are_one_file_on_disk_are_both_in_the_layer(image: ModuleType, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", ("a", "b/file"))
    (root / "z").hardlink_to(root / "a")
    image.make_layer(root, tmp_path / "layer.tar.gz")

    with tarfile.open(tmp_path / "layer.tar.gz") as tar:
        assert all(not entry.islnk() for entry in tar)
        member = tar.extractfile("z")
        assert member is not None
        assert member.read() == b"a"


# ---------------------------------------------------------------- a registry of the one page that a push needs


class FakeRegistry(http.server.BaseHTTPRequestHandler):
    """Keeps blobs and manifests in memory; `busy` answers that many writes with 503."""

    blobs: dict[str, bytes]
    manifests: dict[str, bytes]
    busy: list[int]
    deleting: bool

    def log_message(self, *_words: object) -> None:
        pass

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def allowed(self) -> bool:
        good = self.headers["Authorization"] == "Basic cHVzaDpzZWNyZXQ="
        if not good:
            self.answer(401)
        return good

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_HEAD(self) -> None:
        if not self.allowed():
            return
        kind, name = self.path.split("/")[-2:]
        found = self.blobs.get(name) if kind == "blobs" else self.manifests.get(name)
        digest = f"sha256:{hashlib.sha256(found or b'').hexdigest()}"
        self.answer(200 if found else 404, Docker_Content_Digest=digest)

    def do_POST(self) -> None:
        if self.busy and self.busy.pop():
            self.answer(503)
        elif self.allowed():
            self.answer(202, Location="/v2/omtd/upload/1?state=x%3D")

    def do_PUT(self) -> None:
        if not self.allowed():
            return
        content = self.body()
        if "/manifests/" in self.path:
            self.manifests[self.path.rsplit("/", 1)[1]] = content
        else:
            assert "state=x%3D" in self.path
            self.blobs[self.path.rsplit("digest=", 1)[1].replace("%3A", ":")] = content
        self.answer(201)

    def do_DELETE(self) -> None:
        digest = self.path.rsplit("/", 1)[1]
        for tag, content in list(self.manifests.items()):
            if self.deleting and f"sha256:{hashlib.sha256(content).hexdigest()}" == digest:
                del self.manifests[tag]
        self.answer(202 if self.deleting else 405)


@pytest.fixture
def registry(image: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[FakeRegistry]]]:
    handler = type("Handler", (FakeRegistry,), {"blobs": {}, "manifests": {}, "busy": [], "deleting": True})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # TLS is tested with the real registry; here it is about what is said.
    monkeypatch.setattr(
        image.http.client,
        "HTTPSConnection",
        lambda address, timeout, context: image.http.client.HTTPConnection(address, timeout=timeout),
    )
    monkeypatch.setattr(image, "BUSY_WAITS_SECONDS", (0.01, 0.01))
    yield f"127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def saved(image: ModuleType, tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    contents = {
        "manifest.json": json.dumps([{"Config": "c.json", "Layers": ["base.tar.gz"]}]).encode(),
        "c.json": b"{}",
        "base.tar.gz": b"layer" * 1000,
    }
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_push_leaves_every_blob_under_its_digest_and_the_manifest_under_its_tag(
    image: ModuleType, registry: tuple[str, type[FakeRegistry]], saved: Path
) -> None:
    address, kept = registry
    digest = image.Registry(address, "push", "secret").push(image.SavedImage(saved), "omtd", "tag")

    assert all(f"sha256:{hashlib.sha256(blob).hexdigest()}" == name for name, blob in kept.blobs.items())
    manifest = json.loads(kept.manifests["tag"])
    named = {manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
    assert named == set(kept.blobs)
    assert digest == image.digest_of(kept.manifests["tag"])


def test_a_busy_registry_is_asked_again(
    image: ModuleType, registry: tuple[str, type[FakeRegistry]], saved: Path
) -> None:
    address, kept = registry
    kept.busy[:] = [1]
    image.Registry(address, "push", "secret").push(image.SavedImage(saved), "omtd", "tag")

    assert "tag" in kept.manifests


def test_a_wrong_password_is_one_sentence_with_a_way_out(
    image: ModuleType, registry: tuple[str, type[FakeRegistry]]
) -> None:
    with pytest.raises(image.ImageError, match=r"refuses the password of the user push.*playbook site"):
        image.Registry(registry[0], "push", "wrong").digest("omtd", "tag")


def test_a_registry_that_is_down_is_one_sentence(image: ModuleType) -> None:
    with pytest.raises(image.ImageError, match="the registry does not answer"):
        image.Registry("127.0.0.1:1", "push", "secret").digest("omtd", "tag")


# ---------------------------------------------------------------- who needs it


def command(image: ModuleType, tmp_path: Path, address: str, saved: Path, *, name: str, run: str) -> dict[str, object]:
    password = tmp_path / "password"
    password.write_text("secret")
    words = [name, *([str(saved)] if name == "acquire" else []), address, "omtd", "tag", f"--run={run}"]
    words += [f"--leases={tmp_path / 'leases'}", "--user=push", f"--password-file={password}"]
    answer: dict[str, object] = image.do(image.parse(words))
    return answer


def test_runs_share_the_image_and_the_last_takes_it_away(
    image: ModuleType, registry: tuple[str, type[FakeRegistry]], saved: Path, tmp_path: Path
) -> None:
    address, kept = registry

    assert command(image, tmp_path, address, saved, name="acquire", run="one")["pushed"] is True
    assert command(image, tmp_path, address, saved, name="acquire", run="two")["pushed"] is False
    assert command(image, tmp_path, address, saved, name="release", run="one") == {"image": "needed", "by": ["two"]}
    assert "tag" in kept.manifests
    assert command(image, tmp_path, address, saved, name="release", run="two") == {"image": "deleted", "by": []}
    assert kept.manifests == {}


def test_a_registry_that_deletes_nothing_is_told_and_no_error(
    image: ModuleType, registry: tuple[str, type[FakeRegistry]], saved: Path, tmp_path: Path
) -> None:
    address, kept = registry
    kept.deleting = False
    command(image, tmp_path, address, saved, name="acquire", run="one")

    assert command(image, tmp_path, address, saved, name="release", run="one")["image"] == "refused"


def test_a_run_that_was_interrupted_needs_the_image_until_its_time_is_over(image: ModuleType, tmp_path: Path) -> None:
    leases = image.Leases(tmp_path)
    leases.add("gone", 100, NOW)
    (tmp_path / "broken").write_text("what?")

    assert leases.current(NOW + 99) == ["gone"]
    assert leases.current(NOW + 100) == []


def test_a_run_that_the_platform_does_not_know_needs_the_image_only_while_it_may_still_prepare(
    image: ModuleType, tmp_path: Path
) -> None:
    leases = image.Leases(tmp_path)
    for name, age in (("live", 4000), ("dead", 4000), ("young", 100)):
        leases.add(name, 10_000, NOW)
        os.utime(tmp_path / name, (NOW - age, NOW - age))

    assert leases.current(NOW, ["live"]) == ["live", "young"]
