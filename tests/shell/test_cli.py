"""The command line itself: its arguments, errors and imports; and the commands that read the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest

from tests.contract.samples import case, change, delivery, finding, incident, look, opens, snapshot
from tests.shell.conftest import CommandResult
from tests.waiting import WAIT_LIMIT_S, eventually
from watcher.cli.sandbox import missing_for_sandbox
from watcher.model import DeliveryState, Finding, FindingKind, incident_id
from watcher.sandbox.process import Sandbox
from watcher.store import open_store
from watcher.store.base import Look

Watcher = Callable[..., CommandResult]

HEAVY_PACKAGES = (
    "boto3",
    "botocore",
    "slack_sdk",
    "sagemaker",
    "moto",
    "smdebug",
    "numpy",
    "httpx",
    "pandas",
    "matplotlib",
)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A folder with a store in which the alert on one job is a dead letter."""
    dead = delivery("churn-xgb", "slack:#ml", state=DeliveryState.DEAD, attempts=3, error="channel_not_found")
    with closing(open_store(f"sqlite:///{tmp_path / 'watcher.db'}")) as store:
        store.commit([look("churn-xgb", opens(case("churn-xgb", dead))), look("sales")])
    return tmp_path


def process(*arguments: str, cwd: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "watcher", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


# -- arguments and errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--often"], "watcher: No such option: --often"),
        (["shwo"], "watcher: No such command 'shwo'"),
        (["show"], "watcher: Missing argument 'job'"),
        (["sandbox", "--port", "x"], "watcher: Invalid value for '--port'"),
        (["status", "-c", "nowhere.toml"], "watcher: nowhere.toml: no such file"),
        (["stop"], "watcher: name the jobs to stop, or use --all-in-progress"),
        (["stop", "a", "--all-in-progress"], "watcher: name the jobs to stop, or use --all-in-progress"),
        (["stop", "--cancel", "--all-in-progress"], "watcher: --cancel takes only the names of jobs"),
        (["stop", "--cancel", "--dry-run", "a"], "watcher: --cancel takes only the names of jobs"),
        (["stop", "a"], "watcher: cannot ask for confirmation, because stdin is not a terminal: use --yes"),
    ],
)
def test_wrong_arguments_give_one_line_and_exit_code_2(watcher: Watcher, arguments, line):
    ran = watcher(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(line)
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["incidents"],
        ["jobs"],
        ["show", "x"],
        ["findings"],
        ["audit"],
        ["ack", "x"],
        ["redeliver"],
        ["run"],
        ["check"],
        ["stop", "-y", "x"],
        ["tensors", "x"],
    ],
)
def test_a_wrong_configuration_gives_one_line_and_exit_code_2_in_every_command(watcher: Watcher, command):
    Path("watcher.toml").write_text("[stop]\ndryrun = true")

    ran = watcher(*command)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "watcher: watcher.toml: stop.dryrun: unknown key; did you mean stop.dry_run?\n"


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["incidents"],
        ["jobs"],
        ["show", "x"],
        ["findings"],
        ["audit"],
        ["ack", "x"],
        ["snooze", "x"],
        ["unsnooze", "x"],
        ["redeliver"],
        ["stop", "x", "--cancel"],
    ],
)
def test_reading_without_a_store_says_so_and_creates_none(watcher: Watcher, command, tmp_path):
    ran = watcher(*command)

    assert ran.code == 1
    assert ran.err.startswith("watcher: there is no store at watcher.db yet: `watcher run` creates it")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_a_store_gives_one_line(watcher: Watcher):
    Path("watcher.db").write_text(
        "this is not a database, but a plain text file in its place, long enough" * 20
    )

    ran = watcher("status")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("watcher: store ")
    assert ran.err.count("\n") == 1


def test_a_store_of_another_kind_is_a_configuration_error(watcher: Watcher):
    Path("watcher.toml").write_text('[store]\nurl = "mysql://me:pw@host/db"')

    ran = watcher("status")

    assert ran.code == 2
    assert "store.url" in ran.err
    assert "pw" not in ran.err


def test_a_missing_region_gives_one_line_before_anything_starts(
    watcher: Watcher, monkeypatch, tmp_path: Path
):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    ran = watcher("run")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("watcher: region is not set: write region = ")
    assert ran.err.count("\n") == 1


def test_help_names_every_command(watcher: Watcher):
    ran = watcher("--help")

    assert ran.code == 0
    names = (
        "run check permissions status incidents jobs show lineage findings audit ack snooze unsnooze "
        "redeliver stop logs tensors evaluate profile demo sandbox"
    )
    for command in names.split():
        assert f"\n  {command} " in ran.out
    assert "..." not in ran.out.partition("Commands:")[2]  # each help text fits on its line


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["stop", "--hlp"], "watcher stop --help"),
        (["show"], "watcher show --help"),
        (["sandbox", "--port", "x"], "watcher sandbox --help"),
        (["stop"], "watcher stop --help"),
        (["snooze", "churn", "--for"], "watcher snooze --help"),
        (["tensors", "debug-output", "--full"], "watcher tensors --help"),
        (["evaluate", "a", "--rule", "Overfit", "--param", "x"], "watcher evaluate --help"),
        (["logs", "a", "--grep", "("], "watcher logs --help"),
        (["shwo"], "watcher --help"),
        (["--often"], "watcher --help"),
    ],
)
def test_an_error_refers_to_the_help_of_its_command(watcher: Watcher, arguments, where):
    assert watcher(*arguments).err.endswith(f" (see {where})\n")


def test_it_prints_its_version(watcher: Watcher):
    assert watcher("--version") == CommandResult(0, f"watcher {metadata.version('debugger-watcher')}\n", "")


@pytest.mark.parametrize(
    ("typed", "completions"),
    [
        ("watcher st", {"status", "stop"}),
        ("watcher re", {"redeliver"}),
        ("watcher ", {"run", "check", "sandbox", "demo", "logs"}),
        ("watcher stop --dr", {"--dry-run"}),
        ("watcher logs --", {"--rule", "--since", "--follow", "--config"}),
    ],
)
def test_bash_completes_commands_and_options_of_the_installed_script(typed: str, completions: set[str]):
    script = """
        eval "$(watcher --show-completion bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _watcher_completion watcher
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", *typed.split(" ")],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )

    found = set(done.stdout.split())
    assert found >= completions
    assert all(word.startswith(typed.rpartition(" ")[2]) for word in found)
    assert done.stderr == ""


def test_without_a_command_it_shows_its_help(watcher: Watcher):
    assert watcher() == watcher("--help")


@pytest.mark.parametrize("command", ["sandbox", "demo"])
@pytest.mark.parametrize("module", ["moto", "xgboost"])
def test_the_sandbox_without_its_extra_says_what_to_install(watcher: Watcher, monkeypatch, command, module):
    monkeypatch.setitem(sys.modules, module, None)

    ran = watcher(command)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(
        f"watcher: {module} is missing, which the sandbox needs; in a checkout of Watcher"
    )
    assert "pip install '.[sandbox]'" in ran.err


def test_the_sandbox_gives_one_sentence_where_smdebug_does_not_run():
    newer = missing_for_sandbox((3, 13), lambda module: True)
    without_distutils = missing_for_sandbox((3, 12), lambda module: module != "distutils")

    assert newer.startswith("the sandbox needs Python 3.11 or 3.12")
    assert without_distutils.startswith("distutils is missing")
    assert missing_for_sandbox((3, 12), lambda module: True) == ""


def test_env_refuses_port_0(watcher: Watcher):
    ran = watcher("sandbox", "--print-env", "--port", "0")

    assert (ran.code, ran.out) == (2, "")


# -- as a process ---------------------------------------------------------------------------------


def test_the_command_line_imports_heavy_packages_only_when_needed():
    script = "import sys, watcher.cli; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) & set(HEAVY_PACKAGES) == set()


def test_reading_the_store_imports_no_heavy_packages(known: Path):
    script = (
        "import sys; from watcher.cli import main; code = main(['status']);"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=known, capture_output=True, text=True, check=True
    )

    assert set(done.stderr.split()) & set(HEAVY_PACKAGES) == set()


def test_a_closed_pipe_causes_no_traceback(known: Path):
    with process("jobs", "--json", cwd=known) as reader:
        assert reader.stdout
        assert reader.stderr
        reader.stdout.close()
        errors = reader.stderr.read()

    assert reader.returncode == 1
    assert errors == ""


def test_a_full_disk_behind_stdout_gives_one_line(known: Path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "watcher", "jobs", "--json"],
            cwd=known,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr == "watcher: [Errno 28] No space left on device\n"


def opened_for_writing(fifo: Path) -> int | None:
    """A file descriptor for writing, once the other side reads the FIFO."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_ctrl_c_ends_silently_with_exit_code_130(tmp_path: Path):
    # Nothing writes to this FIFO, so reading the settings waits until it is interrupted.
    os.mkfifo(tmp_path / "watcher.toml")
    with process("status", cwd=tmp_path) as waiting:
        writer = eventually(lambda: opened_for_writing(tmp_path / "watcher.toml"), "the settings are read")
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=WAIT_LIMIT_S)
    os.close(writer)

    assert (waiting.returncode, out, err) == (128 + signal.SIGINT, "", "")


# -- reading the store ----------------------------------------------------------------------------


def test_status_shows_deliveries_that_were_given_up(watcher: Watcher, known: Path):
    ran = watcher("status")

    assert ran.code == 0
    assert "sqlite:///watcher.db" in ran.out
    assert "2 InProgress" in ran.out
    assert "1 dead" in ran.out
    assert "Given up (dead letters)" in ran.out
    assert "channel_not_found" in ran.out


def test_every_reading_command_prints_json_on_request(watcher: Watcher, known: Path):
    assert watcher("status", "--json").json["jobs"] == {"InProgress": 2}
    assert {job["job"] for job in watcher("jobs", "--json").json} == {"churn-xgb", "sales"}
    assert (
        watcher("show", "churn-xgb", "--json").json["told"][0]["deliveries"][0]["error"]
        == "channel_not_found"
    )
    assert [each["job"] for each in watcher("findings", "--json").json] == ["churn-xgb"]
    assert [each["jobs"] for each in watcher("incidents", "--json").json] == [["churn-xgb"]]


def test_lists_can_be_filtered_by_a_glob(watcher: Watcher, known: Path):
    assert [job["job"] for job in watcher("jobs", "sal*", "--json").json] == ["sales"]
    assert watcher("findings", "--job", "sal*", "--json").json == []


def test_a_job_is_shown_in_readable_form(watcher: Watcher, known: Path):
    ran = watcher("show", "churn-xgb")

    assert ran.code == 0
    for words in ("churn-xgb", "InProgress", "slack:#ml", "dead", "channel_not_found"):
        assert words in ran.out


def test_findings_are_listed_in_readable_form(watcher: Watcher, known: Path):
    ran = watcher("findings")

    header, line = ran.out.splitlines()
    columns = ["JOB", "KIND", "RULE", "FOUND", "SOURCE", "STATUS", "OVER", "STEP", "SENT", "TO", "REASON"]
    assert header.split() == columns
    assert line.startswith("churn-xgb  rule_issue  LossNotDecreasing  ")
    assert line.endswith("IssuesFound  -     -     slack:#ml dead  -")


def failed(job: str, **changes: object) -> Finding:
    return finding(job, rule="", kind=FindingKind.JOB_FAILED, status="Failed", **changes)


def at(job: str, created_at: datetime, found: Finding, **changes: object) -> Look:
    """A look at a run that began then, with one finding."""
    seen = snapshot(job, created_at=created_at, **changes)
    id_ = incident_id(seen.run)
    opened = incident(job, id=id_, run=seen.run, opened_at=found.opened_at)
    concerned = replace(found, run=seen.run, incident=id_)
    first = change(job, incident=id_, run=seen.run)
    return look(
        job, opens(case(job, incident=opened, findings=(concerned,), changes=(first,))), snapshot=seen
    )


@pytest.fixture
def over_days(tmp_path: Path) -> Path:
    """A folder with a store: jobs and findings of one hour ago and of four days ago."""
    now = datetime.now(UTC)
    recent, old = now - timedelta(hours=1), now - timedelta(days=4)
    looks = [
        at("new-1", recent, finding("new-1", opened_at=recent)),
        at("new-2", recent, failed("new-2", opened_at=recent), status="Failed"),
        at("old", old, finding("old", opened_at=old)),
    ]
    with closing(open_store(f"sqlite:///{tmp_path / 'watcher.db'}")) as store:
        store.commit(looks)
    return tmp_path


@pytest.mark.usefixtures("over_days")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("jobs", {"new-1", "new-2", "old"}),
        ("jobs --status InProgress", {"new-1", "old"}),
        ("jobs --status InProgress --since 2h", {"new-1"}),
        ("jobs --status Failed --status InProgress --since 5d", {"new-1", "new-2", "old"}),
        ("jobs old --since 2h", set()),
        ("findings --kind rule_issue", {"new-1", "old"}),
        ("findings --kind rule_issue --kind job_failed --since 3d", {"new-1", "new-2"}),
        ("findings --status IssuesFound --since 3d", {"new-1"}),
        ("findings --status Failed", {"new-2"}),
        ("findings --kind rule_stuck", set()),
        ("incidents --since 3d", {"new-1", "new-2"}),
    ],
)
def test_lists_can_be_limited_by_status_kind_and_time(watcher: Watcher, arguments: str, names: set[str]):
    as_json, printed = watcher(*arguments.split(), "--json"), watcher(*arguments.split())

    assert {each.get("job") or each["jobs"][0] for each in as_json.json} == names
    assert {line.split()[0] for line in printed.out.splitlines()[1:]} == names


@pytest.mark.usefixtures("over_days")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("jobs --status inprogress", "--status inprogress: unknown; did you mean InProgress?"),
        ("jobs --status Complete", "--status Complete: unknown; did you mean Completed?"),
        (
            "jobs --status xyz",
            "--status xyz: unknown; use one of Completed, Deleting, Failed, InProgress, Stopped, Stopping",
        ),
        ("jobs --since yesterday", "--since 'yesterday': write how long ago, such as 30m, 1h30m, 2d or "),
        ("findings --since 3months", "--since '3months': write how long ago, such as 30m, 1h30m, 2d or "),
        ("findings --kind rule_isue", "--kind rule_isue: unknown; did you mean rule_issue?"),
        ("findings --kind RuleIssue", "--kind RuleIssue: unknown; did you mean rule_issue?"),
        ("incidents --state opn", "--state opn: unknown; did you mean open?"),
        ("incidents --state Closed", "--state Closed: unknown; use one of acknowledged, open, resolved"),
        ("findings --status IssueFound", "--status IssueFound: unknown; did you mean IssuesFound?"),
    ],
)
def test_an_unknown_value_of_a_filter_is_refused_with_what_would_be_right(
    watcher: Watcher, arguments: str, complaint: str
):
    ran = watcher(*arguments.split())

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"watcher: {complaint}")


def test_a_job_may_be_shown_by_the_beginning_of_its_name(watcher: Watcher, known: Path):
    assert watcher("show", "chu", "--json").json["job"] == "churn-xgb"


def test_a_job_that_the_store_does_not_know_is_shown_as_sagemaker_has_it(
    watcher: Watcher, known: Path, aws_environment: Sandbox
):
    aws_environment.control.put_training_job("elsewhere", TrainingJobStatus="Failed", FailureReason="OOM")

    out = watcher("show", "elsewhere").out

    assert "OOM" in out
    assert "no (the store does not know it)" in out
    assert watcher("show", "elsewhere", "--json").json["status"] == "Failed"


def test_a_job_that_nobody_knows_is_a_usage_error_with_the_closest_name(
    watcher: Watcher, known: Path, aws_environment: Sandbox
):
    assert watcher("show", "churn-xbg") == CommandResult(
        2, "", "watcher: the store has no job churn-xbg; did you mean churn-xgb?\n"
    )
