from __future__ import annotations

import re

from tests.docs.pages import read


def test_exactly_the_served_pages_have_a_row():
    served = re.findall(r'"(/[a-z]*)": \w+[,}]', read("watcher/web/application.py"))
    described = re.findall(r"^\| `(/[a-z]*)` \|", read("docs/operations.md"), re.MULTILINE)

    assert served == described
    assert len(served) > 1
