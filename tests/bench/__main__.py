"""`make bench`: measures Watcher's speed, memory and cost, and prints them next to the expected figures.

    python -m tests.bench [--json] [PART …]

Each part is printed as soon as it is measured: as a table, or with `--json` as one line. A part compares
Watcher with a peer or with a bare client on the same machine in the same run, as a ratio, because absolute
figures depend on the machine. It runs in processes of its own and has a time limit; if it fails or takes too
long, the others still run and the exit code is 1. Nothing fails because of a bad figure: these are not
tests. With BENCH_BEFORE=COMMIT in the environment, latencies are measured of that version too: see
`tests.bench.before`.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.measuring import Bench, NotMeasured, Usage, usage
from tests.bench.parts import Part, parts

BUSY = 0.1
"""The share of the machine for other processes above which absolute figures say little."""


def main(words: list[str]) -> int:
    as_json = "--json" in words
    wanted = [word for word in words if word != "--json"]
    if unknown := set(wanted) - {part.name for part in parts()}:
        sys.exit(f"no part {', '.join(sorted(unknown))}: there are {', '.join(p.name for p in parts())}")
    failed = []
    begin = time.monotonic()
    for part in parts():
        if (not wanted or part.name in wanted) and not measured(part, as_json):
            failed.append(part.name)
    minutes = (time.monotonic() - begin) / 60
    print(f"{minutes:.0f} minutes; not measured: {', '.join(failed) or 'none'}", file=sys.stderr)
    return 1 if failed else 0


def measured(part: Part, as_json: bool) -> bool:
    console = Console(stderr=True)
    console.print(f"measuring {part.what} (at most {part.limit_s / 60:.0f} min) …")
    try:
        with usage() as used:
            figures = part.figures(Bench(time.monotonic() + part.limit_s))
    except NotMeasured as error:
        console.print(f"{part.name}: {error}", markup=False)
        return False
    if as_json:
        print(json.dumps({"part": part.name, **asdict(used), "figures": figures}), flush=True)
    else:
        Console().print(table(part, figures, used))
    return True


def table(part: Part, figures: object, used: Usage) -> Table:
    title = f"{part.name}: {part.what}, in {used.seconds:.0f} s ({used.cpu_seconds:.0f} s of CPU)"
    caption = f"other processes used {used.others:.0%} of the processors: absolute figures say little"
    rows = Table(
        *("what", "measured", "expected"),
        title=title,
        title_justify="left",
        caption=caption if used.others > BUSY else None,
    )
    for row in part.rows(figures):
        rows.add_row(*map(escape, row))
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
