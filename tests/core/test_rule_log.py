"""Debugger's log format, read line by line and written."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rules
from rules import Evidence, Status, Verdict
from tests.jobs import ARN, NOON
from watcher.logs import rule_log
from watcher.logs.rule_log import LINES_SHOWN, MAX_LINE_CHARACTERS, RuleLog, excerpt, local_stream
from watcher.text import clean as visible


def record(said: str, level: str = "INFO", place: str = "loss_decrease.py:305") -> str:
    return f"[2026-11-20 11:59:59.345 ip-10-0-1-7:1 {level} {place}] {said}"


STARTED = record("Started execution of rule LossNotDecreasing at step 0", place="rule_invoker.py:15")
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "/opt/ml/code/rule.py", line 31, in invoke_at_step',
    "    loss = self.base_trial.tensor(name).value(step)",
    "",
    "KeyError: 'loss'",
]
CONDITION_MET = (
    "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 140 resulted in the "
    "condition being met"
)


def read(*lines: str, apart: float = 1.0) -> RuleLog:
    """The log after these lines, the first of them at NOON."""
    log = RuleLog()
    for number, line in enumerate(lines):
        log = log.after(NOON + timedelta(seconds=number * apart), line)
    return log


# -- reading --------------------------------------------------------------------------------------


def test_reading_records_the_last_line_and_its_time():
    log = read("Collecting pandas", STARTED, "")

    assert log.last_at == NOON + timedelta(seconds=1)
    assert log.last_line == "Started execution of rule LossNotDecreasing at step 0"
    assert not log.error
    assert not log.fired


def test_reading_records_the_newest_step_in_any_line():
    log = read(STARTED, record("Loss is decreasing at step 30"), record("Looking at step 12 again"))

    assert log.step == 30


@pytest.mark.parametrize(
    "line",
    [
        record("Loss is not decreasing over the last 10 steps at step 140"),
        record(f"Exception during rule evaluation: {CONDITION_MET}", "ERROR"),
        f"Exception during rule evaluation: {CONDITION_MET}",
        CONDITION_MET,
    ],
)
def test_a_rule_that_fires_is_not_an_error(line):
    log = read(STARTED, line)

    assert log.fired
    assert log.step == 140
    assert not log.error


def test_a_traceback_that_ends_with_the_rule_firing_is_not_an_error():
    log = read(STARTED, *TRACEBACK[:-1], f"smdebug.exceptions.{CONDITION_MET}")

    assert log.fired
    assert not log.error


def test_a_traceback_is_summarised_by_its_last_line():
    log = read(STARTED, *TRACEBACK)

    assert log.error == "KeyError: 'loss'"
    assert log.error_at == NOON + timedelta(seconds=5)


def test_a_traceback_in_one_event_is_summarised_by_its_last_line():
    assert read(STARTED, "\n".join(TRACEBACK)).error == "KeyError: 'loss'"


def test_the_last_of_chained_tracebacks_counts():
    chained = "During handling of the above exception, another exception occurred:"
    log = read(*TRACEBACK, "", chained, "", *TRACEBACK[:-1], "ValueError: no such tensor")

    assert log.error == "ValueError: no such tensor"


def test_a_truncated_traceback_is_still_an_error():
    assert read(STARTED, *TRACEBACK[:3]).error == TRACEBACK[0]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (record("Could not read s3://team/x", "ERROR"), "Could not read s3://team/x"),
        (record("Out of memory", "CRITICAL"), "Out of memory"),
        ("ERROR:root:no such collection", "no such collection"),
        (
            "Exception during rule evaluation: ClientError: no data",
            "Exception during rule evaluation: ClientError: no data",
        ),
    ],
)
def test_the_error_is_the_text_of_its_line(line, error):
    assert read(STARTED, line).error == error


@pytest.mark.parametrize(
    "line",
    [
        record("Errors so far: 0"),
        record("Could not find a GPU", "WARNING"),
        "ERROR: pip's dependency resolver does not currently take into account all the packages",
        "2026-11-20 11:59:59.1: E tensorflow/stream_executor/cuda_driver.cc:351] failed call to cuInit",
        "train-error 0.25",
    ],
)
def test_a_line_that_only_looks_like_an_error_is_not_one(line):
    assert not read(STARTED, line).error


@pytest.mark.parametrize("line", [record("Looking at what was saved"), "checked step 11"])
def test_a_rule_that_continues_after_an_error_has_no_error(line):
    error = record("Could not read the tensors of step 10", "ERROR")

    assert not read(STARTED, error, line).error


@pytest.mark.parametrize("line", ["    and this is the rest of a long message", "Bye", "still at step 0"])
def test_other_output_after_an_error_does_not_clear_it(line):
    error = record("Could not read the tensors of step 10", "ERROR")

    assert read(STARTED, error, line).error == "Could not read the tensors of step 10"


def test_a_late_line_updates_only_the_step_and_the_firing():
    before = read(STARTED, *TRACEBACK)
    late = NOON + timedelta(seconds=2)

    after = before.after(late, record("Looking at what was saved")).after(late, record(CONDITION_MET))

    assert (after.last_at, after.last_line, after.error) == (before.last_at, before.last_line, before.error)
    assert after.fired
    assert after.step == 140


@given(st.lists(st.tuples(st.integers(0, 10**6), st.text() | st.sampled_from(TRACEBACK))))
def test_any_text_can_be_read_and_the_state_stays_small(lines):
    log = RuleLog()
    for seconds, line in lines:
        log = log.after(NOON + timedelta(seconds=seconds), line)

    assert len(log.last_line) <= MAX_LINE_CHARACTERS
    assert len(log.error) <= MAX_LINE_CHARACTERS
    seen = [NOON + timedelta(seconds=seconds) for seconds, line in lines if visible(line).strip()]
    assert log.last_at == max(seen, default=None)


def test_impossible_step_numbers_are_read_without_an_error():
    assert read(f"step {'9' * 100_000}").step == int("9" * 18)


@given(st.integers(0, 10**9), st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_any_record_that_is_not_an_error_clears_an_error(step, text):
    assert not read(*TRACEBACK, record(f"{text} at step {step}")).error


# -- the lines that matter ------------------------------------------------------------------------

BOOT = [
    "Collecting smdebug==1.0.12",
    "  Downloading smdebug-1.0.12-py2.py3-none-any.whl (270 kB)",
    "Requirement already satisfied: numpy in /usr/lib/python3 (1.22)",
    "Successfully installed smdebug-1.0.12",
    "WARNING: Running pip as the 'root' user can result in broken permissions",
    "2026-11-20 11:59:59.123: W tensorflow/stream_executor/platform/default/dso_loader.cc:64] Could not load",
    "/usr/lib/python3/site.py:526: FutureWarning: Passing (type, 1) or '1type' as a synonym",
    "  _np_qint8 = np.dtype([('qint8', np.int8, 1)])",
    "",
]


def test_the_excerpt_leaves_out_container_boot_messages():
    assert excerpt([*BOOT, STARTED]) == (STARTED,)


def test_the_excerpt_has_the_lines_before_the_firing_and_a_few_after():
    steps = [record(f"Looking at step {step}") for step in range(40)]
    complaint = record("Loss is not decreasing over the last 10 steps at step 40")
    after = [record(f"Uploading part {part}") for part in range(5)]

    shown = excerpt([*BOOT, *steps, complaint, *after])

    assert shown == (*steps[-7:], complaint, *after[:2])


def test_the_excerpt_of_a_long_traceback_has_its_start_and_its_end():
    frames = [line for number in range(20) for line in (f'  File "rule.py", line {number}', "    self.go()")]
    lines = [STARTED, TRACEBACK[0], *frames, TRACEBACK[-1]]

    shown = excerpt(lines)

    assert shown == (TRACEBACK[0], "…", *lines[-8:])
    assert len(shown) == LINES_SHOWN


@pytest.mark.parametrize("exception", ["KeyboardInterrupt", "botocore.errorfactory.NoSuchKey: not there"])
def test_a_traceback_is_shown_to_its_end_for_any_exception_name(exception):
    lines = [TRACEBACK[0], *TRACEBACK[1:3] * 2, exception, *(record(f"Bye {number}") for number in range(9))]

    assert excerpt(lines)[-3] == exception


def test_a_log_with_only_boot_messages_is_still_shown():
    assert excerpt(BOOT[:2]) == tuple(BOOT[:2])


def test_a_traceback_that_fits_is_shown_with_the_lines_before_it():
    assert excerpt([STARTED, *TRACEBACK]) == (STARTED, *(line for line in TRACEBACK if line))


def test_without_notable_lines_the_excerpt_is_the_end_of_the_log():
    lines = [f"line {number}" for number in range(30)]

    assert excerpt(lines) == tuple(lines[-LINES_SHOWN:])


KINDS = [line for line in (*TRACEBACK, *BOOT, STARTED) if line]


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126)) | st.sampled_from(KINDS)))
def test_the_excerpt_is_always_a_subset_of_the_lines_in_order(lines):
    shown = excerpt(lines)
    rest = iter(lines)

    assert len(shown) <= LINES_SHOWN
    assert all(line in rest for line in shown if line != "…")


BAR = "".join(
    f"\r{done:3d}%|{'█' * (done // 4):25}| {done}/100 [00:01<00:09, 1.2it/s]" for done in range(100)
)
PRINTED_TENSOR = f"tensor([{', '.join(f'{number / 7:.4f}' for number in range(5000))}]) no Error here"
JSON_LINE = json.dumps({"level": "info", "Error: rate": 0.1, "losses": list(range(5000))})
OCTAL = "#033[31m" + BAR.replace("\r", "#015") + "#033[0m#011done"


@pytest.mark.parametrize(
    "noise", [BAR, PRINTED_TENSOR, JSON_LINE, OCTAL], ids=["bar", "tensor", "JSON", "octal"]
)
@pytest.mark.parametrize("error", [[*TRACEBACK], [record("Error: the channel is empty", "ERROR")]])
def test_the_error_outlives_one_long_line_that_follows(noise, error):
    shown = excerpt([STARTED, *error, noise])

    assert error[-1] in shown
    assert error[0] in shown
    assert max(map(len, shown)) <= MAX_LINE_CHARACTERS
    assert not set("\r\x1b") & set("".join(shown))
    assert "#0" not in "".join(shown)


def test_an_error_in_the_middle_of_a_long_line_is_what_is_shown_of_it():
    [shown] = excerpt([f"{'x' * 5000} RuntimeError: CUDA out of memory {'y' * 5000}"])

    assert "x RuntimeError: CUDA out of memory y" in shown
    assert len(shown) == MAX_LINE_CHARACTERS


def test_a_traceback_in_one_event_is_shown_as_lines_also_with_octal_line_ends():
    lines = [line for line in TRACEBACK if line]

    assert excerpt(["\n".join(lines)]) == tuple(lines)
    assert excerpt(["#012".join(lines)]) == tuple(lines)


def test_an_error_that_a_progress_bar_overwrites_is_kept():
    assert excerpt(["50%|██\rValueError: no rows\r100%|████"]) == ("ValueError: no rows",)


def test_a_line_of_many_megabytes_costs_little():
    begun = time.process_time()
    excerpt([" " * 1_000_000 + "x", "Error" * 200_000, BAR * 100])

    assert time.process_time() - begun < 5


# -- writing --------------------------------------------------------------------------------------

ROW = Evidence("train-loss", 140, 0.3, previous_step=130, previous_value=0.3)
FIRED = Verdict(Status.ISSUES_FOUND, "plateau", "it wants 5 %", step=140, evidence=(ROW,))


@pytest.fixture
def rule() -> rules.Rule:
    return rules.load("LossNotDecreasing", {})


def test_a_written_line_has_the_format_of_debugger():
    line = rule_log.formatted(rule_log.loading("s3://team/x"), NOON, "watcher:1", "LossNotDecreasing")

    assert line == (
        "[2026-11-20 12:00:00.000 watcher:1 INFO LossNotDecreasing] "
        "Loading trial base_trial at path s3://team/x"
    )


def test_a_written_firing_is_read_back_as_a_firing(rule):
    lines = [rule_log.started(rule, 0), *rule_log.concluded(rule, "my-rule", FIRED)]
    log = read(*(rule_log.formatted(line, NOON, "watcher:1", "my-rule") for line in lines))

    assert log.fired
    assert log.step == 140
    assert not log.error
    assert lines[1].text == "Loss is not decreasing over the last 10 steps at step 140. it wants 5 %"


@pytest.mark.parametrize("status", Status)
def test_only_an_evaluation_that_failed_is_read_as_an_error(rule, status):
    verdict = Verdict(status, explanation="the reason", step=8)
    lines = [rule_log.started(rule, 0), *rule_log.concluded(rule, "my-rule", verdict)]
    log = read(*(rule_log.formatted(line, NOON, "watcher:1", "my-rule") for line in lines))

    assert bool(log.error) is (status is Status.ERROR)
    assert log.fired is (status is Status.ISSUES_FOUND)


def test_a_running_evaluation_has_no_conclusion(rule):
    assert rule_log.concluded(rule, "my-rule", Verdict(Status.IN_PROGRESS)) == ()


# -- names ----------------------------------------------------------------------------------------


def test_the_log_stream_of_a_local_evaluation_is_named_like_that_of_a_rule_job():
    stream = local_stream(ARN + "Churn-XGB-with-a-name-longer-than-that", "LossNotDecreasing", NOON)

    assert re.fullmatch(
        r"Churn-XGB-with-a-name-long-LossNotDecreasing-[0-9a-f]{8}/local-1795176000000", stream
    )
    assert datetime.fromtimestamp(1795176000, UTC) == NOON


@given(st.text(min_size=1, max_size=256), st.text(min_size=1, max_size=256))
def test_two_rules_of_one_job_have_two_streams_with_names_that_cloudwatch_accepts(one, other):
    streams = {local_stream(f"{ARN}churn", rule, NOON) for rule in (one, other)}

    assert len(streams) == len({one, other})
    assert all(re.fullmatch(r"[^:*]{1,512}", stream) for stream in streams)


def test_an_excerpt_shows_no_secret():
    lines = ["Traceback (most recent call last):", "OSError: cannot reach postgres://ml:hunter2@db/churn"]

    assert excerpt(lines)[-1] == "OSError: cannot reach postgres://***db/churn"
