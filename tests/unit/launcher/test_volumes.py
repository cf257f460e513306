"""Which files of a node a component may see."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launcher_program import load_launcher

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting is for root")


def real_path(launcher: ModuleType, source: Path | str, shared: Path) -> Path:
    """Open a volume as the launcher does: where it really lies."""
    descriptor = launcher.open_volume(launcher.Volume(str(source), "/x", read_only=False), [str(shared)])
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    finally:
        os.close(descriptor)


def test_what_lies_below_a_shared_directory_is_taken(launcher: ModuleType, shared: Path) -> None:
    (shared / "job" / "working").mkdir(parents=True)
    (shared / "job" / "input.txt").touch()
    assert real_path(launcher, shared / "job" / "working", shared) == shared / "job" / "working"
    assert real_path(launcher, shared / "job" / "input.txt", shared) == shared / "job" / "input.txt"
    assert real_path(launcher, shared, shared) == shared


def test_a_link_inside_the_shared_directory_is_followed(launcher: ModuleType, shared: Path) -> None:
    (shared / "files").mkdir()
    (shared / "link").symlink_to(shared / "files")
    assert real_path(launcher, shared / "link", shared) == shared / "files"


def test_a_shared_directory_may_be_a_link_itself(launcher: ModuleType, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "srv").symlink_to(shared)
    (shared / "job").mkdir()
    assert real_path(launcher, tmp_path / "srv" / "job", tmp_path / "srv") == shared / "job"


@pytest.mark.parametrize("target", ["/etc", "/", "/etc/passwd", "..", "../../.."])
def test_a_link_that_leads_out_is_refused(launcher: ModuleType, shared: Path, target: str) -> None:
    (shared / "link").symlink_to(target)
    with pytest.raises(launcher.RefusedError, match="in truth"):
        real_path(launcher, shared / "link", shared)


def test_a_path_through_a_link_that_leads_out_is_refused(launcher: ModuleType, shared: Path) -> None:
    (shared / "link").symlink_to("/etc")
    with pytest.raises(launcher.RefusedError, match=r"in truth /etc/passwd"):
        real_path(launcher, shared / "link" / "passwd", shared)


def test_dots_lead_nowhere(launcher: ModuleType, shared: Path) -> None:
    with pytest.raises(launcher.RefusedError, match="components see what lies below"):
        real_path(launcher, f"{shared}/../../../../../../../../etc", shared)


def test_a_neighbour_with_the_same_beginning_is_refused(launcher: ModuleType, shared: Path) -> None:
    neighbour = shared.with_name("database-of-others")
    neighbour.mkdir()
    with pytest.raises(launcher.RefusedError):
        real_path(launcher, neighbour, shared)


@pytest.mark.parametrize("source", ["named-volume", "relative/path", "", "~", "/nowhere/at/all", "/etc\0"])
def test_what_is_no_path_of_this_node_is_refused(launcher: ModuleType, shared: Path, source: str) -> None:
    with pytest.raises(launcher.RefusedError):
        real_path(launcher, source, shared)


def test_sockets_and_devices_are_refused(launcher: ModuleType, shared: Path) -> None:
    os.mkfifo(shared / "pipe")
    with pytest.raises(launcher.RefusedError):
        real_path(launcher, shared / "pipe", shared)
    (shared / "null").symlink_to("/dev/null")
    with pytest.raises(launcher.RefusedError):
        real_path(launcher, shared / "null", shared)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(st.one_of(NAMES, st.just("..")), min_size=1, max_size=5).map("/".join)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(PATHS, st.one_of(st.none(), PATHS, st.sampled_from(["/", "/etc", "/tmp"]))), max_size=8),
    PATHS,
)
def test_however_links_are_laid_nothing_outside_is_opened(tree: list[tuple[str, str | None]], asked: str) -> None:
    launcher = load_launcher()
    top = Path(tempfile.mkdtemp()).resolve()
    shared = top / "shared"
    shared.mkdir()
    try:
        for path, link in tree:
            place = shared / path
            if not Path(os.path.normpath(place)).is_relative_to(shared):
                continue
            try:
                if link is None:
                    place.mkdir(parents=True)
                else:
                    place.symlink_to(link)
            except OSError:
                continue
        try:
            real = real_path(launcher, f"{shared}/{asked}", shared)
        except launcher.RefusedError:
            return
        assert real.is_relative_to(shared)
        assert real.samefile(shared / asked)
    finally:
        shutil.rmtree(top)


@needs_root
def test_a_link_laid_after_the_check_changes_nothing(launcher: ModuleType, shared: Path, tmp_path: Path) -> None:
    (shared / "job").mkdir()
    (shared / "job" / "mine").touch()
    pinned = tmp_path / "pinned"
    descriptor = launcher.open_volume(launcher.Volume(str(shared / "job"), "/x", read_only=False), [str(shared)])
    (shared / "job").rename(shared / "elsewhere")
    (shared / "job").symlink_to("/etc")
    launcher.pin(descriptor, pinned)
    os.close(descriptor)
    try:
        assert [path.name for path in pinned.iterdir()] == ["mine"]
    finally:
        launcher.LIBC.umount2(bytes(pinned), launcher.MNT_DETACH)


@needs_root
def test_mounts_are_taken_away_with_the_launch_and_files_stay(
    launcher: ModuleType, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "LAUNCHES", tmp_path / "launches")
    (shared / "input.txt").write_text("text")
    volumes = [
        launcher.Volume(str(shared), "/a", read_only=True),
        launcher.Volume(str(shared / "input.txt"), "/b", read_only=False),
    ]
    with launcher.pinned_volumes(volumes, [str(shared)], "12-x") as options:
        assert options == [
            f"type=bind,source={tmp_path}/launches/12-x/0,target=/a,readonly",
            f"type=bind,source={tmp_path}/launches/12-x/1,target=/b",
        ]
        assert (tmp_path / "launches/12-x/0/input.txt").read_text() == "text"
        assert (tmp_path / "launches/12-x/1").read_text() == "text"
    assert list((tmp_path / "launches").iterdir()) == []
    assert (shared / "input.txt").read_text() == "text"
    assert str(tmp_path / "launches") not in Path("/proc/self/mounts").read_text()


@needs_root
def test_a_refused_volume_leaves_no_mount_of_those_before_it(
    launcher: ModuleType, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "LAUNCHES", tmp_path / "launches")
    volumes = [launcher.Volume(str(shared), "/a", read_only=False), launcher.Volume("/etc", "/b", read_only=False)]
    with pytest.raises(launcher.RefusedError), launcher.pinned_volumes(volumes, [str(shared)], "12-x"):
        pass
    assert list((tmp_path / "launches").iterdir()) == []
    assert str(tmp_path / "launches") not in Path("/proc/self/mounts").read_text()
