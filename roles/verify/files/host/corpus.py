#!/usr/bin/env python3
"""Takes the documents of a corpus out of a Debian package: corpus.py PACKAGE FOLDER DOCUMENT…

The package is downloaded by the host's own apt, which checks its signatures, and is not installed. A document is the
name of a POD page in it (`perlre` of perl-doc); its prose becomes FOLDER/<name>.txt: headings and paragraphs, without
mark-up and without the indented examples, which are code and not language.

Prints one JSON object: package, version, documents, bytes and, of the names that the package lacks, missing.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND_LIMIT_SECONDS = 300
# Formatting codes, innermost first: C<word>, or with any number of brackets and blanks inside: C<< a > b >>.
CODE_LONG = re.compile(r"([A-Z])(<<+)\s+(.*?)\s+>>+", re.DOTALL)
CODE_SHORT = re.compile(r"([A-Z])<([^<>]*)>")
COMMAND = re.compile(r"=([a-z]+\d*)\s*(.*)", re.DOTALL)
# Blocks for other programs than a reader of text.
FOREIGN = re.compile(r"^=begin\b.*?^=end\b[^\n]*", re.DOTALL | re.MULTILINE)


class CorpusError(Exception):
    """What an operator can put right; the message is for them."""


def run(*words: str | Path, folder: Path) -> str:
    """Run a command in a folder; CorpusError with its last words when it fails."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=COMMAND_LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-2:])
        raise CorpusError(f"{' '.join(command)}: exit code {done.returncode}: {last}")
    return done.stdout


def plain(text: str) -> str:
    """Resolve the formatting codes of POD: links become their text, entities characters, index marks nothing."""

    def resolved(match: re.Match[str]) -> str:
        code, content = match.group(1), match.group(match.lastindex or 2)
        if code in "XZ":
            return ""
        if code == "E":
            return html.unescape({"lt": "&lt;", "gt": "&gt;", "sol": "/", "verbar": "|"}.get(content, f"&{content};"))
        if code == "L":
            shown, separator, _target = content.partition("|")
            return shown if separator else content.strip('/"')
        return content

    text = CODE_LONG.sub(resolved, text)
    # As deep as people nest them; what is left over is text.
    for _depth in range(5):
        text, number = CODE_SHORT.subn(resolved, text)
        if not number:
            break
    return text


def prose(pod: str) -> str:
    """Give the headings and paragraphs of a POD page, one a paragraph."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", FOREIGN.sub("", pod.replace("\r\n", "\n"))):
        if not block.strip() or block[:1] in " \t\n":
            continue
        command = COMMAND.fullmatch(block.strip())
        if command:
            # Items of lists are mostly names of options and functions; headings are sentences of a kind.
            if command[1].startswith("head"):
                paragraphs.append(plain(command[2]).strip().rstrip(".") + ".")
            continue
        paragraphs.append(" ".join(plain(block).split()))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph.strip(". ")) + "\n"


def take(package: str, folder: Path, names: list[str]) -> dict[str, object]:
    """Write the documents of a package into a folder; tell what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work_name:
        work = Path(work_name)
        run("apt-get", "-o", "APT::Sandbox::User=", "download", package, folder=work)
        archive = next(work.glob("*.deb"))
        version = run("dpkg-deb", "--field", archive, "Version", folder=work).strip()
        run("dpkg-deb", "--extract", archive, work / "package", folder=work)
        pages = {path.stem: path for path in sorted((work / "package").rglob("*.pod"))}
        missing = [name for name in names if name not in pages]
        size = 0
        for name in names:
            if name in pages:
                text = prose(pages[name].read_text(encoding="utf-8", errors="replace"))
                (folder / f"{name}.txt").write_text(text, encoding="utf-8")
                size += len(text.encode())
    return {
        "package": package,
        "version": version,
        "documents": len(names) - len(missing),
        "bytes": size,
        "missing": missing,
    }


def main(words: list[str]) -> int:
    """Take the documents that the command line names; 0 when it went well."""
    if len(words) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(json.dumps(take(words[0], Path(words[1]), words[2:])))
    except (CorpusError, OSError, subprocess.TimeoutExpired) as exc:
        print(str(exc), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
