"""docs/local-evaluation.md shows what `watcher evaluate` prints."""

from __future__ import annotations

import json

import pytest

import rules
from rules import Evidence, Status, Verdict
from rules.profiler import PROFILER_RULES
from tests.docs.pages import code_blocks, read
from tests.docs.shapes import shape
from tests.doubles.profiler_output import write_job
from watcher.debug_output.reader import DebugOutput
from watcher.debug_output.storage import Folder
from watcher.evaluation import backtest
from watcher.evaluation.profile import of_folder, to_document
from watcher.evaluation.saved_data import SavedData
from watcher.store import views

PAGE = read("docs/local-evaluation.md")


def test_the_verdict_on_the_page_has_the_shape_of_a_real_one(tmp_path):
    [shown] = (json.loads(text) for text in code_blocks(PAGE, "json") if '"steps_checked"' in text)
    saved = SavedData("churn", DebugOutput(Folder(tmp_path)))
    run = backtest.backtest(saved, shown["rule"], [shown["parameters"]], lambda place: saved)
    row = Evidence("validation-logloss", 36, 0.04684, 34, 0.04921, 5.0, missed_by=0.19266, needed=0.04675)
    verdict = Verdict(Status.ISSUES_FOUND, "plateau", "", 36, 18, ("train", "validation"), (row,))

    assert shape(shown) == shape(json.loads(views.to_json(backtest.evaluation(run, verdict))))


def test_the_profile_on_the_page_has_the_shape_of_a_real_one(tmp_path):
    [shown] = (json.loads(text) for text in code_blocks(PAGE, "json") if '"values_checked"' in text)
    write_job(tmp_path, 10, cores=1)
    document = json.loads(views.to_json(to_document(of_folder(tmp_path).profile())))
    document["nodes"]["algo-1"] = {"GPUUtilization": document["nodes"]["algo-1"]["GPUUtilization"]}
    [low] = [rule for rule in document["rules"] if rule["rule"] == "LowGPUUtilization"]
    document["rules"] = [{**low, "report": {}}]

    assert shape(shown) == shape(document)


@pytest.mark.parametrize("rule", PROFILER_RULES)
def test_every_profiler_rule_has_its_reading(rule):
    assert rule in PAGE


def test_the_rows_of_a_sweep_have_the_keys_that_the_page_names(tmp_path):
    saved = SavedData("churn", DebugOutput(Folder(tmp_path)))
    keys = ", ".join(f'"{key}"' for key in backtest.row(saved, {}, Verdict(Status.ERROR)))

    assert f"`{{{keys}}}`" in PAGE


@pytest.mark.parametrize("word", Status)
def test_every_verdict_has_a_row(word):
    assert f"\n| `{word}` | " in PAGE


def test_the_page_gives_the_size_limit_of_a_sweep():
    assert f"at most {backtest.MAX_SWEEP_COMBINATIONS}" in PAGE


@pytest.mark.parametrize("name", rules.RULES)
def test_the_page_says_of_every_rule_whether_it_recovers(name):
    _, _, section = PAGE.partition("## When a rule recovers")
    table, _, rest = section.partition("CheckInputImages, ")
    describes_how = rules.RULES[name].checks_to_recover is not rules.Rule.checks_to_recover

    assert (name in table) == describes_how
    assert (name in f"CheckInputImages, {rest}".partition("end when they fire")[0]) == (not describes_how)
