# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the platform's result with the local one and writes the report of verify, on the controller."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible_collections.omtd.workflow.plugins.module_utils.verify import names, report

ARGUMENT_SPEC = {
    "run": {"type": "str", "required": True},
    "site": {"type": "str", "required": True},
    "folder": {"type": "path", "required": True},
    "results_folder": {"type": "path"},
    "reference_folder": {"type": "path"},
    "corpus": {"type": "dict", "default": {}},
    "image": {"type": "dict", "default": {}},
    "results": {"type": "dict", "default": {}},
    "failure": {"type": "str", "default": ""},
    "stays": {"type": "list", "elements": "str", "default": []},
    "leftovers": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):
    """Writes the files of the report; fails when the results are not the same."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _dummy, args = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        result["changed"] = False
        if self._task.check_mode:
            return result
        try:
            result.update(write(args))
        except OSError as exc:
            result.update(failed=True, msg=f"{exc.filename}: {exc.strerror}; the report cannot be written")
        return result


def write(args: dict[str, t.Any]) -> dict[str, t.Any]:
    """Compare, and write all files of the report."""
    folder = Path(args["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    moment = names.began(args["run"]).strftime("%Y-%m-%d %H:%M:%S UTC")
    comparison, keywords, pictures = None, [], []
    corpus_table = Path(args["results_folder"] or folder) / "corpus.tsv"
    if args["results_folder"] and not args["failure"]:
        comparison = report.compare(Path(args["results_folder"]), Path(args["reference_folder"]))
    if args["results_folder"] and corpus_table.is_file():
        keywords = report.read_keywords(corpus_table)
        (folder / "corpus.tsv").write_bytes(corpus_table.read_bytes())
        package = f"{args['corpus'].get('package', '')} {args['corpus'].get('version', '')}"
        pictures.append(("keywords.svg", "The best terms of the corpus"))
        (folder / "keywords.svg").write_text(report.keyword_chart(keywords, package.strip()), encoding="utf-8")
    jobs = [job for job in args["results"].get("jobs", []) if not job["tool"].startswith("__")]
    timeline = report.job_chart(jobs, f"{len(jobs)} jobs of run {args['run']}")
    if timeline:
        pictures.append(("jobs.svg", "When each job ran"))
        (folder / "jobs.svg").write_text(timeline, encoding="utf-8")
    facts = report.Facts(
        run=args["run"],
        site=args["site"],
        began=moment,
        corpus=args["corpus"],
        image=args["image"],
        results=args["results"],
        failure=args["failure"],
        stays=args["stays"],
        leftovers=args["leftovers"],
    )
    (folder / "report.md").write_text(report.text(facts, comparison, keywords, pictures), encoding="utf-8")
    figures = {name: args[name] for name in ("run", "site", "failure", "corpus", "image", "results")}
    figures["equal"] = None if comparison is None else comparison.equal
    (folder / "results.json").write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    outcome: dict[str, t.Any] = {"changed": True, "report": str(folder / "report.md")}
    if comparison is not None:
        outcome["equal"] = comparison.equal
        outcome["msg"] = comparison.sentence()
        if not comparison.equal:
            outcome["failed"] = True
            outcome["msg"] = f"the platform's result is wrong: {comparison.sentence()}; see {folder / 'report.md'}"
    outcome["keywords"] = [keyword.name for keyword in keywords if keyword.kind == "term"][:10]
    outcome["phrases"] = [keyword.name for keyword in keywords if keyword.kind == "phrase"][:6]
    return outcome
