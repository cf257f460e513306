"""Fixtures of the tests of verify: the scripts that run on the build host, imported from the role's files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILES = Path(__file__).resolve().parents[3] / "roles" / "verify" / "files"


def load(path: Path) -> ModuleType:
    """Import a script by its path."""
    name = f"verify_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def image() -> ModuleType:
    return load(FILES / "host" / "image.py")


@pytest.fixture(scope="session")
def corpus() -> ModuleType:
    return load(FILES / "host" / "corpus.py")


@pytest.fixture(scope="session")
def textmining() -> ModuleType:
    return load(FILES / "component" / "textmining.py")
