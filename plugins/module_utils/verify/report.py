# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run: is the platform's result the local one, byte by byte, and what does it say? Pictures are SVG."""

from __future__ import annotations

import statistics
import typing as t
from pathlib import Path
from xml.sax.saxutils import escape

TERMS_SHOWN = 20
PHRASES_SHOWN = 15
INK, FAINT = "#1b1f24", "#8a939d"
COLOURS = ("#2b6cb0", "#2f855a", "#b7791f", "#9b2c2c", "#553c9a", "#4a5568")


class Keyword(t.NamedTuple):
    """A line of corpus.tsv: kind term or phrase; a term's score is better when high, a phrase's when low."""

    kind: str
    name: str
    score: float
    times: int
    documents: int


class Comparison(t.NamedTuple):
    """Two folders of results: how many files are the same, and which are not."""

    same: int
    different: list[str]
    missing: list[str]
    surplus: list[str]

    @property
    def equal(self) -> bool:
        """Say whether there is something, and all of it is the same."""
        return bool(self.same) and not (self.different or self.missing or self.surplus)

    def sentence(self) -> str:
        """Say it."""
        if self.equal:
            return f"all {self.same} result files are byte for byte those of the local computation"
        parts = [
            ("differ from", self.different),
            ("are missing, unlike in", self.missing),
            ("are not in", self.surplus),
        ]
        words = [
            f"{len(files)} ({', '.join(files[:3])}{', …' if len(files) > 3 else ''}) {what} the local computation"
            for what, files in parts
            if files
        ]
        return f"{self.same} result files are the same; {'; '.join(words) or 'there are no results to compare'}"


def compare(results: Path, reference: Path) -> Comparison:
    """Compare the results with the reference, byte by byte."""
    ours, theirs = (
        {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*.tsv"))}
        for folder in (results, reference)
    )
    both = [name for name in theirs if name in ours]
    different = [name for name in both if ours[name].read_bytes() != theirs[name].read_bytes()]
    return Comparison(
        same=len(both) - len(different),
        different=different,
        missing=[name for name in theirs if name not in ours],
        surplus=[name for name in ours if name not in theirs],
    )


def read_keywords(path: Path) -> list[Keyword]:
    """Read corpus.tsv, in its order: best first, terms before phrases."""
    keywords = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        kind, name, score, count, documents = line.split("\t")
        keywords.append(Keyword(kind, name, float(score), int(count or 0), int(documents)))
    return keywords


# ------------------------------------------------------------ pictures


def keyword_chart(keywords: t.Sequence[Keyword], caption: str) -> str:
    """Draw the best terms as bars, as SVG."""
    terms = [keyword for keyword in keywords if keyword.kind == "term"][:TERMS_SHOWN]
    row, left, width, top = 24, 150, 560, 48
    height = top + row * len(terms) + 16
    best = max((term.score for term in terms), default=1.0) or 1.0
    parts = [heading("Keywords of the corpus, by TF-IDF", caption)]
    for number, term in enumerate(terms):
        y = top + row * number
        length = max(1.0, term.score / best * (width - 180))
        parts.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end" fill="{INK}">{escape(term.name)}</text>'
            f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{row - 7}" rx="2" fill="{COLOURS[0]}"/>'
            f'<text x="{left + length + 6:.1f}" y="{y + 15}" fill="{FAINT}" font-size="11">'
            f"{term.times} times in {term.documents} documents</text>"
        )
    return svg(left + width, height, parts)


def job_chart(jobs: t.Sequence[dict[str, t.Any]], caption: str) -> str:
    """Draw when each job ran on its node, one line a job, one colour a command, as SVG; '' without measurements."""
    measured = sorted((job for job in jobs if job.get("started")), key=lambda job: (job["started"], job["ended"]))
    if not measured:
        return ""
    commands = list(dict.fromkeys(command_of(job["tool"]) for job in measured))
    colours = {command: COLOURS[number % len(COLOURS)] for number, command in enumerate(commands)}
    begin = measured[0]["started"]
    # Galaxy measures whole seconds: a job that takes less than one is drawn as one.
    end = max(max(job["ended"], job["started"] + 1) for job in measured)
    row, left, width, top = 7, 60, 620, 76
    height = top + row * len(measured) + 34
    scale = width / (end - begin)
    parts = [heading("When each job ran on its node", caption)]
    for number, command in enumerate(commands):
        x = left + number * 110
        parts.append(
            f'<rect x="{x}" y="52" width="12" height="12" rx="2" fill="{colours[command]}"/>'
            f'<text x="{x + 17}" y="62" fill="{INK}">{escape(command)}</text>'
        )
    for number, job in enumerate(measured):
        x = left + (job["started"] - begin) * scale
        length = max(job["ended"] - job["started"], 1) * scale
        parts.append(
            f'<rect x="{x:.1f}" y="{top + row * number}" width="{length:.1f}" height="{row - 2}" rx="1"'
            f' fill="{colours[command_of(job["tool"])]}"/>'
        )
    for tick in range(5):
        seconds = (end - begin) * tick / 4
        x = left + seconds * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{height - 26}" stroke="{FAINT}" stroke-width="0.5"/>'
            f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle" fill="{FAINT}" font-size="11">'
            f"{seconds:.0f} s</text>"
        )
    return svg(left + width + 30, height, parts)


def heading(title: str, caption: str) -> str:
    """Draw a title and a line below it."""
    return (
        f'<text x="16" y="22" fill="{INK}" font-size="15" font-weight="bold">{escape(title)}</text>'
        f'<text x="16" y="39" fill="{FAINT}" font-size="11">{escape(caption)}</text>'
    )


def svg(width: int, height: int, parts: t.Sequence[str]) -> str:
    """Put parts on a white page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="white"/>' + "\n".join(parts) + "</svg>\n"
    )


def command_of(tool: str) -> str:
    """Give the command in a tool's id: the last part of ours, the whole of Galaxy's own."""
    return tool.strip("_").lower() if tool.startswith("__") else tool.rsplit("_", 1)[-1]


# ------------------------------------------------------------ the text


class Facts(t.NamedTuple):
    """What the text tells, besides the results."""

    run: str
    site: str
    began: str
    corpus: dict[str, t.Any]
    """package, version, documents, bytes"""
    image: dict[str, t.Any]
    """name, digest, mib, built, pushed, python"""
    results: dict[str, t.Any]
    """of run.Results; {} when it did not come so far"""
    failure: str
    stays: list[str]
    leftovers: list[str]


def text(
    facts: Facts, comparison: Comparison | None, keywords: t.Sequence[Keyword], pictures: t.Sequence[tuple[str, str]]
) -> str:
    """Write the report as Markdown; pictures are (file, title)."""
    good = not facts.failure and (comparison is None or comparison.equal)
    lines = [
        f"# {'The workflow ran, and its result is right' if good else 'The verification failed'}",
        "",
        f"Site {facts.site}, run `{facts.run}`, begun {facts.began}.",
        "",
    ]
    if facts.failure:
        lines += ["**Why:** " + " ".join(facts.failure.split()), ""]
    if comparison is not None:
        lines += [f"**Check:** {comparison.sentence()}.", ""]
    lines += what_ran(facts)
    if keywords:
        lines += keyword_tables(keywords)
    lines += [line for file, title in pictures for line in (f"![{title}]({file})", "")]
    lines += speed(facts.results)
    lines += ["## What stays on the site", ""]
    lines += [f"- {item}" for item in facts.stays] or ["- nothing"]
    if facts.leftovers:
        lines += ["", f"Left by interrupted runs and taken away by this one: {', '.join(facts.leftovers)}."]
    return "\n".join(lines) + "\n"


def what_ran(facts: Facts) -> list[str]:
    """Say what was computed with what."""
    corpus, image = facts.corpus, facts.image
    if not (corpus or image or facts.results):
        return []
    lines = ["## What ran", ""]
    if corpus:
        lines.append(
            f"- Corpus: {corpus['documents']} documents, {corpus['bytes'] / 1e6:.2f} MB of text, from the package"
            f" {corpus['package']} {corpus['version']} of the host's distribution."
        )
    if image:
        made = "built by this run" if image.get("built") else "from the cache" if image.get("mib") else "as given"
        size = f", {image['mib']} MiB compressed" if image.get("mib") else ""
        lines.append(f"- Component: `{image['name']}` ({made}{size}); digest `{image.get('digest') or 'unknown'}`.")
    if facts.results:
        lines.append(
            f"- Workflow: tokenise → count, and keywords, mapped over the documents; merge over all of them. Galaxy"
            f" {facts.results['galaxy']} of the executor, every job in a container on a cluster node."
        )
    if image and image.get("reference"):
        reference = image["reference"]
        lines.append(
            f"- Local computation: the same component with Python {reference['python']} on {reference['host']}, without"
            f" container, scheduler or Galaxy; {reference['seconds']} s in one process."
        )
    return [*lines, ""]


def keyword_tables(keywords: t.Sequence[Keyword]) -> list[str]:
    """Write the best terms and phrases as tables."""
    lines = ["## Keywords of the corpus", "", "| term | TF-IDF | count | documents |", "|---|--:|--:|--:|"]
    lines += [
        f"| {keyword.name} | {keyword.score:.4f} | {keyword.times} | {keyword.documents} |"
        for keyword in keywords
        if keyword.kind == "term"
    ][:TERMS_SHOWN]
    lines += ["", "| key phrase (YAKE) | mean score | documents |", "|---|--:|--:|"]
    lines += [
        f"| {keyword.name} | {keyword.score:.4f} | {keyword.documents} |"
        for keyword in keywords
        if keyword.kind == "phrase"
    ][:PHRASES_SHOWN]
    return [*lines, ""]


def speed(results: dict[str, t.Any]) -> list[str]:
    """Write what was measured."""
    if not results:
        return []
    lines = ["## Speed", "", "| what | figure |", "|---|--:|"]
    names = {
        "tools": "wrappers loaded",
        "upload": "documents uploaded",
        "workflow": "workflow",
        "download": "results downloaded",
    }
    lines += [f"| {names[part]} | {seconds:.1f} s |" for part, seconds in results["seconds"].items() if part in names]
    lines += figures(results)
    return [*lines, ""]


def figures(results: dict[str, t.Any]) -> list[str]:
    """Give rows of the jobs and the probes."""
    rows = []
    ours = [job for job in results["jobs"] if not job["tool"].startswith("__")]
    if ours:
        rows.append(f"| jobs of the workflow | {len(ours)} |")
        seconds = results["seconds"].get("workflow", 0.0)
        if seconds:
            rows.append(f"| jobs a minute | {len(ours) / seconds * 60:.0f} |")
        if any(job["started"] for job in ours):
            rows.append(f"| seconds on nodes, together | {sum(job['seconds'] for job in ours):.0f} |")
    latency = results["latency"]
    if latency:
        rows.append(
            f"| small job, submission to ok | median {statistics.median(latency):.1f} s, best {min(latency):.1f} s,"
            f" worst {max(latency):.1f} s of {len(latency)} |"
        )
    parallel = results["parallel"]
    if parallel:
        rows.append(
            f"| {parallel['jobs']:.0f} small jobs at once | {parallel['seconds']:.1f} s, {parallel['lost']:.0f} lost |"
        )
        if latency:
            alone = statistics.median(latency) * parallel["jobs"]
            rows.append(f"| the same one after the other ÷ at once | {alone / parallel['seconds']:.1f} |")
    return rows
