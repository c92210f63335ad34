"""What a pass over many known jobs asks of AWS."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.bench.stubbed import PROJECT


def test_a_pass_over_known_jobs_is_one_search_for_a_hundred_of_them_and_one_for_what_changed():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.one_pass", "1000"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=True,
    )
    known = json.loads(done.stdout)["known"]
    assert known["calls"] == {"Search": 1_000 / 100 + 1}
    assert known["waiting_for_describe"] == 0
