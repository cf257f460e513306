"""The comparison, the pictures and the text."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.omtd.workflow.plugins.action import verify_report
from ansible_collections.omtd.workflow.plugins.module_utils.verify import report

CORPUS = (
    "kind\tname\tscore\tcount\tdocuments\nterm\tperl\t0.5\t10\t2\nterm\ta<b\t0.25\t5\t1\nphrase\thash slice\t0.1\t\t2\n"
)
RESULTS = {
    "galaxy": "26.1",
    "seconds": {"upload": 3.2, "workflow": 40.0},
    "jobs": [
        {"id": "1", "tool": "__DATA_FETCH__", "state": "ok", "started": 0.0, "ended": 0.0, "seconds": 0.0},
        {"id": "2", "tool": "omtd_x_count", "state": "ok", "started": 100.0, "ended": 102.0, "seconds": 2.0},
        {"id": "3", "tool": "omtd_x_merge", "state": "ok", "started": 103.0, "ended": 103.0, "seconds": 0.0},
    ],
    "latency": [3.0, 2.0, 4.0],
    "parallel": {"jobs": 50, "ok": 50, "lost": 0, "seconds": 30.0, "submission_seconds": 5.0},
}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("results", "reference"):
        (tmp_path / name / "counts").mkdir(parents=True)
        (tmp_path / name / "counts" / "one.tsv").write_text("term\tcount\n")
        (tmp_path / name / "corpus.tsv").write_text(CORPUS)
    return tmp_path / "results", tmp_path / "reference"


def facts(**changes: object) -> report.Facts:
    values: dict[str, object] = {
        "run": "20261121t010000z-3f9a",
        "site": "lab",
        "began": "now",
        "corpus": {"package": "perl-doc", "version": "5", "documents": 20, "bytes": 1_200_000},
        "image": {"name": "r:5000/i:1", "digest": "sha256:1", "mib": 44.7, "built": True},
        "results": RESULTS,
        "failure": "",
        "stays": ["registry: bytes"],
        "leftovers": [],
        **changes,
    }
    return report.Facts(**values)  # type: ignore[arg-type]


def test_the_same_bytes_are_equal(folders: tuple[Path, Path]) -> None:
    compared = report.compare(*folders)

    assert compared.equal
    assert compared.sentence().startswith("all 2 result files are byte for byte")


def test_one_byte_more_is_named(folders: tuple[Path, Path]) -> None:
    with (folders[0] / "counts" / "one.tsv").open("a") as file:
        file.write(" ")
    compared = report.compare(*folders)

    assert not compared.equal
    assert "1 (counts/one.tsv) differ from the local computation" in compared.sentence()


def test_a_result_that_is_missing_or_too_many_is_named(folders: tuple[Path, Path]) -> None:
    (folders[0] / "counts" / "one.tsv").rename(folders[0] / "counts" / "two.tsv")
    compared = report.compare(*folders)

    assert not compared.equal
    assert "counts/one.tsv) are missing" in compared.sentence()
    assert "counts/two.tsv) are not in" in compared.sentence()


def test_no_results_at_all_are_not_equal(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    assert not report.compare(tmp_path / "a", tmp_path / "b").equal


def test_the_pictures_are_svg_that_shows_every_term_and_every_job(folders: tuple[Path, Path]) -> None:
    keywords = report.read_keywords(folders[0] / "corpus.tsv")
    drawn = ElementTree.fromstring(report.keyword_chart(keywords, "perl-doc & co"))  # noqa: S314
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"perl", "a<b", "perl-doc & co"} <= set(words)

    jobs = report.job_chart(RESULTS["jobs"], "caption")  # type: ignore[arg-type]
    bars = ElementTree.fromstring(jobs).findall("{http://www.w3.org/2000/svg}rect")  # noqa: S314
    # the page, two colours explained, two jobs that were measured
    assert len(bars) == 5


def test_jobs_that_nobody_measured_give_no_picture() -> None:
    assert report.job_chart(RESULTS["jobs"][:1], "") == ""  # type: ignore[index]


def test_a_good_report_has_corpus_keywords_speed_and_what_stays(folders: tuple[Path, Path]) -> None:
    keywords = report.read_keywords(folders[0] / "corpus.tsv")
    text = report.text(facts(), report.compare(*folders), keywords, [("keywords.svg", "terms")])

    assert text.startswith("# The workflow ran, and its result is right")
    for words in (
        "20 documents, 1.20 MB of text, from the package perl-doc 5",
        "| perl | 0.5000 | 10 | 2 |",
        "| hash slice | 0.1000 | 2 |",
        "![terms](keywords.svg)",
        "median 3.0 s, best 2.0 s, worst 4.0 s of 3",
        "| 50 small jobs at once | 30.0 s, 0 lost |",
        "| the same one after the other ÷ at once | 5.0 |",
        "| jobs of the workflow | 2 |",
        "- registry: bytes",
    ):
        assert words in text


def test_a_report_of_a_failure_begins_with_the_reason() -> None:
    text = report.text(facts(failure="the registry\ndoes not answer", results={}, image={}), None, [], [])

    assert text.startswith("# The verification failed")
    assert "**Why:** the registry does not answer" in text


def test_a_wrong_result_is_a_failed_verification(folders: tuple[Path, Path]) -> None:
    (folders[0] / "corpus.tsv").write_text(CORPUS.replace("0.5", "0.6"))
    text = report.text(facts(), report.compare(*folders), [], [])

    assert text.startswith("# The verification failed")
    assert "corpus.tsv) differ" in text


def test_the_folder_of_a_report_has_pictures_tables_and_figures(folders: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = {
        "run": "20261121t010000z-3f9a",
        "site": "lab",
        "folder": str(tmp_path / "report"),
        "results_folder": str(folders[0]),
        "reference_folder": str(folders[1]),
        "corpus": facts().corpus,
        "image": facts().image,
        "results": RESULTS,
        "failure": "",
        "stays": [],
        "leftovers": [],
    }
    outcome = verify_report.write(arguments)

    assert outcome["equal"] is True
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"report.md", "results.json", "keywords.svg", "jobs.svg", "corpus.tsv"}
    figures = json.loads((tmp_path / "report" / "results.json").read_text())
    assert figures["results"]["latency"] == [3.0, 2.0, 4.0]

    (folders[0] / "corpus.tsv").write_text(CORPUS.replace("0.5", "0.6"))
    wrong = verify_report.write(arguments)
    assert (wrong["failed"], wrong["equal"]) == (True, False)
    assert wrong["msg"].startswith("the platform's result is wrong: ")
