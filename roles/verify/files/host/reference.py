#!/usr/bin/env python3
"""Does the workflow's computation without the platform: reference.py IMAGE_TAR DOCUMENTS FOLDER

The same component and libraries, taken out of the image, run with this host's own python3 (of the same release, so the
same version) as nobody: no container, no scheduler, no Galaxy. FOLDER gets counts/ and keywords/ with one table a
document, and corpus.tsv. Prints one JSON object: seconds, documents, python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

PYTHON = "/usr/bin/python3"
NOBODY = 65534
COMPONENT_LAYER = "component.tar.gz"
STEP_LIMIT_SECONDS = 900
# One process for all documents: the component's own commands, called one after the other.
PROGRAM = """
import sys
from pathlib import Path
import textmining
documents, tokens, counts, keywords, corpus = map(Path, sys.argv[1:])
for text in sorted(documents.glob("*.txt")):
    for words in (
        ["tokenise", "--text", text, "--output", tokens / f"{text.stem}.txt"],
        ["count", "--tokens", tokens / f"{text.stem}.txt", "--output", counts / f"{text.stem}.tsv"],
        ["keywords", "--text", text, "--output", keywords / f"{text.stem}.tsv"],
    ):
        if textmining.main([str(word) for word in words]):
            raise SystemExit(1)
words = ["merge", "--counts", counts, "--keywords", keywords, "--output", corpus]
raise SystemExit(textmining.main([str(word) for word in words]))
"""


class ComputationError(Exception):
    """What an operator can put right; the message is for them."""


def unpack_component(image: Path, folder: Path) -> Path:
    """Take the component's layer out of a saved image; give the folder of the component."""
    with tarfile.open(image) as tar:
        layer = tar.extractfile(COMPONENT_LAYER)
        if layer is None:
            raise ComputationError(f"{image}: has no {COMPONENT_LAYER}; remove it, the next run makes it again")
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tar.gz") as copy:
            shutil.copyfileobj(layer, copy)
            copy.flush()
            subprocess.run(
                ["tar", "-xz", "--no-same-owner", "-C", folder, "-f", copy.name], check=True, timeout=STEP_LIMIT_SECONDS
            )
    return folder / "opt" / "omtd"


def compute(image: Path, documents: Path, target: Path) -> dict[str, object]:
    """Compute everything from the documents; tell what was done."""
    with tempfile.TemporaryDirectory(prefix="omtd-verify-") as name:
        work = Path(name)
        component = unpack_component(image, work)
        texts, results = work / "documents", work / "results"
        shutil.copytree(documents, texts)
        for part in ("tokens", "counts", "keywords"):
            (results / part).mkdir(parents=True)
        # Below a folder that everybody may enter; nobody else's files are touched.
        work.chmod(0o755)
        for path in (results, *results.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        started = time.monotonic()
        done = subprocess.run(
            [
                *(PYTHON, "-c", PROGRAM, texts, results / "tokens", results / "counts", results / "keywords"),
                results / "corpus.tsv",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=results,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            timeout=STEP_LIMIT_SECONDS,
            check=False,
            env={
                "PATH": "/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "PYTHONPATH": f"{component}:{component / 'lib'}",
                "PYTHONHASHSEED": "0",
                "PYTHONDONTWRITEBYTECODE": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
        seconds = time.monotonic() - started
        if done.returncode:
            last = " ".join(done.stderr.strip().splitlines()[-2:])
            raise ComputationError(f"the local computation ended with exit code {done.returncode}: {last}")
        target.mkdir(parents=True, exist_ok=True)
        for part in ("counts", "keywords"):
            shutil.copytree(results / part, target / part, dirs_exist_ok=True)
        shutil.copyfile(results / "corpus.tsv", target / "corpus.tsv")
        number = len(list((target / "counts").iterdir()))
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return {"seconds": round(seconds, 1), "documents": number, "python": version}


def main(words: list[str]) -> int:
    """Compute what the command line says; 0 when it went well."""
    if len(words) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(json.dumps(compute(*(Path(word) for word in words))))
    except (ComputationError, OSError, subprocess.SubprocessError, tarfile.TarError) as exc:
        print(str(exc), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
