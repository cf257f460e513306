"""The text-mining component: what it computes, and what it says of bad input."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest


def tables(folder: Path, *contents: str) -> Path:
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number}.tsv").write_text(content)
    return folder


def test_terms_are_words_of_letters_in_lower_case_without_function_words(textmining: ModuleType) -> None:
    sentences = [["The", "hash", "of", "a", "Hash", "x", "2nd", "don't", "$var", "straße"]]

    assert textmining.count(sentences, frozenset(("the", "of"))) == Counter({"hash": 2, "straße": 1})


def test_a_term_in_every_document_weighs_its_share(textmining: ModuleType) -> None:
    rows = textmining.merge_terms([{"perl": 1, "hash": 1}, {"perl": 2}])

    name, weight, count, documents = rows[0]
    assert (name, count, documents) == ("perl", 3, 2)
    assert weight == pytest.approx(0.5 + 1.0)


def test_a_rare_term_weighs_more_than_a_common_one_of_the_same_share(textmining: ModuleType) -> None:
    rows = {row[0]: row[1] for row in textmining.merge_terms([{"rare": 1, "common": 1}, {"common": 1, "other": 1}])}

    assert rows["rare"] == pytest.approx(0.5 * (math.log(3 / 2) + 1))
    assert rows["common"] == pytest.approx(1.0)


def test_long_documents_do_not_drown_short_ones(textmining: ModuleType) -> None:
    rows = {row[0]: row[1] for row in textmining.merge_terms([{"long": 10_000}, {"short": 1}])}

    assert rows["long"] == rows["short"]


def test_equal_terms_come_in_the_order_of_their_names(textmining: ModuleType) -> None:
    assert [row[0] for row in textmining.merge_terms([{"b": 1, "a": 1, "c": 1}])] == ["a", "b", "c"]


def test_phrases_that_more_documents_share_come_first_and_single_words_are_no_phrases(textmining: ModuleType) -> None:
    rows = textmining.merge_phrases([{"hash slice": 0.5, "word": 0.1, "one time": 0.1}, {"hash slice": 0.7}])

    assert [(row[0], row[2]) for row in rows] == [("hash slice", 2), ("one time", 1)]
    assert rows[0][1] == pytest.approx(0.6)


def test_merge_does_not_depend_on_the_order_in_which_files_were_made(textmining: ModuleType, tmp_path: Path) -> None:
    counts = ["term\tcount\nhash\t2\n", "term\tcount\nhash\t1\nscalar\t4\n"]
    keywords = "phrase\tscore\nhash slice\t0.5\n"
    outputs = []
    for name, order in (("one", (0, 1)), ("two", (1, 0))):
        base = tmp_path / name
        base.mkdir()
        for folder in ("counts", "keywords"):
            (base / folder).mkdir()
        for number in order:
            (base / "counts" / f"{number}.tsv").write_text(counts[number])
            (base / "keywords" / f"{number}.tsv").write_text(keywords)
        output = base / "corpus.tsv"
        words = ["merge", "--counts", base / "counts", "--keywords", base / "keywords", "--output", output]
        assert textmining.main([str(word) for word in words]) == 0
        outputs.append(output.read_bytes())

    assert outputs[0] == outputs[1]
    assert outputs[0].startswith(b"kind\tname\tscore\tcount\tdocuments\nterm\thash\t1.200000\t3\t2\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"caf\xe9", "byte 3 is not UTF-8"),
        (None, "No such file or directory"),
    ],
)
def test_a_document_that_cannot_be_read_is_one_line_and_no_result(
    textmining: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    words: str,
) -> None:
    text, output = tmp_path / "text.txt", tmp_path / "out.tsv"
    if content is not None:
        text.write_bytes(content)

    assert textmining.main(["keywords", "--text", str(text), "--output", str(output)]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not output.exists()


def test_a_table_that_is_none_is_named_with_its_line(
    textmining: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = tables(tmp_path / "counts", "term\tcount\nhash\t2\nno number here\n")
    keywords = tables(tmp_path / "keywords", "phrase\tscore\n")
    words = ["merge", "--counts", counts, "--keywords", keywords, "--output", tmp_path / "out"]

    assert textmining.main([str(word) for word in words]) == 1
    assert "0.tsv:3: 'no number here'" in capsys.readouterr().err
