"""`make bench` runs to its end, whatever happens to one of its parts."""

from __future__ import annotations

import time

import pytest
from rich.console import Console

from tests.bench import __main__ as bench
from tests.bench.measuring import Bench, NotMeasured, Usage
from tests.bench.parts import Part, medians


def _part(name: str, module: str, limit_s: float) -> Part:
    return Part(name, name, limit_s, lambda bench: bench.measure(module, "1"), lambda _: [("[a]", "1", "2")])


def test_a_measurement_that_takes_too_long_is_ended():
    with pytest.raises(NotMeasured, match=r"tests\.bench\.stub 1 was not finished in time"):
        Bench(deadline=time.monotonic()).measure("stub", "1")


def test_the_other_parts_are_measured_when_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    easy = Part("easy", "easy", 60, lambda _: {"figure": 1}, lambda _: [])
    monkeypatch.setattr(
        bench, "parts", lambda: [_part("late", "stub", 0), _part("none", "missing", 60), easy]
    )

    code = bench.main(["--json"])

    printed = capsys.readouterr()
    assert code == 1
    assert '"figures": {"figure": 1}' in printed.out
    assert "No module named tests.bench.missing" in printed.err
    assert "not measured: late, none" in printed.err


@pytest.mark.parametrize(("others", "said"), [(0.05, False), (0.5, True)])
def test_a_table_says_when_the_machine_was_busy(others: float, said: bool):
    console = Console(width=120)
    with console.capture() as shown:
        console.print(bench.table(_part("one", "stub", 1), {}, Usage(10.0, 1.0, others)))
    assert "[a]" in shown.get()
    assert ("other processes used 50%" in " ".join(shown.get().split())) is said


def test_several_runs_become_the_median_of_each_figure():
    runs = [{"calls": {"Search": 2}, "known": {"seconds": each}} for each in (3.0, 1.0, 2.0)]
    assert medians(runs) == {"calls": {"Search": 2}, "known": {"seconds": 2.0}}
