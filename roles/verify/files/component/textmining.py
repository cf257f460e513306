#!/usr/bin/env python3
"""A small text-mining component: one command a step, plain files in and out.

textmining tokenise --text DOC.txt --output TOKENS.txt
textmining count    --tokens TOKENS.txt --output COUNTS.tsv
textmining keywords --text DOC.txt --output KEYWORDS.tsv
textmining merge    --counts FOLDER --keywords FOLDER --output CORPUS.tsv

Sentences and words are found by segtok, key phrases by YAKE (Campos et al., Information Sciences 509, 2020).
The same input gives the same bytes, on any machine with the same libraries: that is what a check relies on.
Errors are one line on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections import Counter
from pathlib import Path

WORD = re.compile(r"[^\W\d_]{2,}")
PHRASES_PER_DOCUMENT = 40
TERMS_OF_CORPUS = 200
PHRASES_OF_CORPUS = 60
LONGEST_PHRASE = 3


class InputError(Exception):
    """Something about the input that its owner can put right; the message is for them."""


def read_text(path: Path) -> str:
    """Give a document's text; InputError when it is not there, empty or not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror}; give a readable text file") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: byte {exc.start} is not UTF-8; convert the document to UTF-8") from exc
    if not text.strip():
        raise InputError(f"{path}: is empty; give a document with text")
    return text


def tokenise(text: str) -> list[list[str]]:
    """Give the words of a text, sentence by sentence."""
    from segtok.segmenter import split_multi  # noqa: PLC0415 - each command loads only what it needs
    from segtok.tokenizer import web_tokenizer  # noqa: PLC0415

    sentences = (web_tokenizer(sentence) for sentence in split_multi(text) if sentence.strip())
    return [words for words in sentences if words]


def stop_words() -> frozenset[str]:
    """Give the English function words that YAKE brings along."""
    import yake  # noqa: PLC0415

    path = Path(yake.__file__).parent / "core" / "StopwordsList" / "stopwords_en.txt"
    return frozenset(path.read_text(encoding="utf-8").lower().split())


def count(sentences: list[list[str]], ignored: frozenset[str]) -> Counter[str]:
    """Count the terms of a document: words of letters in lower case, without function words."""
    words = (word.lower() for sentence in sentences for word in sentence)
    return Counter(word for word in words if WORD.fullmatch(word) and word not in ignored)


def key_phrases(text: str) -> list[tuple[str, float]]:
    """Give (phrase, score) of a document, best first; a low score is a good phrase."""
    import yake  # noqa: PLC0415

    extractor = yake.KeywordExtractor(lan="en", n=LONGEST_PHRASE, top=PHRASES_PER_DOCUMENT)
    found = ((str(phrase).lower(), float(score)) for phrase, score in extractor.extract_keywords(text))
    return sorted(found, key=lambda entry: (round(entry[1], 9), entry[0]))


def merge_terms(documents: list[dict[str, int]]) -> list[tuple[str, float, int, int]]:
    """Give (term, TF-IDF, count, documents with it) of a corpus, best first.

    A term's weight in a document is its share of the document's terms times ln((1 + N) / (1 + n)) + 1, where n of
    N documents have it; the corpus' weight is the sum. So long documents do not drown short ones.
    """
    frequency: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    shares: dict[str, list[float]] = {}
    for terms in documents:
        together = sum(terms.values())
        for term, number in terms.items():
            frequency[term] += 1
            totals[term] += number
            shares.setdefault(term, []).append(number / together)
    rows = [
        (term, math.fsum(parts) * (math.log((1 + len(documents)) / (1 + frequency[term])) + 1))
        for term, parts in shares.items()
    ]
    rows.sort(key=lambda row: (-round(row[1], 9), row[0]))
    return [(term, weight, totals[term], frequency[term]) for term, weight in rows[:TERMS_OF_CORPUS]]


def merge_phrases(documents: list[dict[str, float]]) -> list[tuple[str, float, int]]:
    """Give (phrase, score, documents with it) of a corpus, best first: phrases of several words that several
    documents share count most, then those with the best (lowest) mean score."""
    scores: dict[str, list[float]] = {}
    for phrases in documents:
        for phrase, score in phrases.items():
            if " " in phrase:
                scores.setdefault(phrase, []).append(score)
    rows = [(phrase, math.fsum(found) / len(found), len(found)) for phrase, found in scores.items()]
    rows.sort(key=lambda row: (-row[2], round(row[1], 9), row[0]))
    return rows[:PHRASES_OF_CORPUS]


def read_table(path: Path) -> dict[str, float]:
    """Give {first column: second column} of a table with a head line; InputError names the line that is wrong."""
    table = {}
    for number, line in enumerate(read_text(path).splitlines()[1:], start=2):
        name, tab, value = line.partition("\t")
        try:
            table[name] = float(value)
        except ValueError:
            tab = ""
        if not tab:
            raise InputError(f"{path}:{number}: {line!r} is not a name, a tab and a number; give the output of count")
    return table


def read_tables(folder: Path) -> list[dict[str, float]]:
    """Give the tables of a folder in the order of their names, so that the caller's order does not matter."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder}: has no files; give a folder with one table a document")
    return [read_table(path) for path in files]


def write(path: Path, lines: list[str]) -> None:
    """Write lines, whole or not at all: a job that is killed leaves no half result under the right name."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(unfinished, path)  # noqa: PTH105 - Path.replace returns a path nobody wants


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line says."""
    if arguments.command == "tokenise":
        write(arguments.output, [" ".join(words) for words in tokenise(read_text(arguments.text))])
    elif arguments.command == "count":
        sentences = [line.split() for line in read_text(arguments.tokens).splitlines()]
        counted = sorted(count(sentences, stop_words()).items(), key=lambda entry: (-entry[1], entry[0]))
        write(arguments.output, ["term\tcount", *(f"{term}\t{number}" for term, number in counted)])
    elif arguments.command == "keywords":
        phrases = key_phrases(read_text(arguments.text))
        write(arguments.output, ["phrase\tscore", *(f"{phrase}\t{score:.6g}" for phrase, score in phrases)])
    else:
        counts = [{term: int(number) for term, number in table.items()} for table in read_tables(arguments.counts)]
        phrases_of = read_tables(arguments.keywords)
        lines = ["kind\tname\tscore\tcount\tdocuments"]
        lines += [f"term\t{term}\t{weight:.6f}\t{n}\t{df}" for term, weight, n, df in merge_terms(counts)]
        lines += [f"phrase\t{phrase}\t{score:.6g}\t\t{df}" for phrase, score, df in merge_phrases(phrases_of)]
        write(arguments.output, lines)


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="textmining", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    inputs = {"tokenise": ["text"], "count": ["tokens"], "keywords": ["text"], "merge": ["counts", "keywords"]}
    for command, names in inputs.items():
        subparser = commands.add_parser(command)
        for name in [*names, "output"]:
            subparser.add_argument(f"--{name}", type=Path, required=True)
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Run one command; 0 when it went well."""
    try:
        run(parse(words))
    except InputError as exc:
        print(f"textmining: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
