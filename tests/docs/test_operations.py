from __future__ import annotations

import re

from tests.docs.pages import read


def test_every_page_that_is_served_has_a_row_and_no_other():
    served = re.findall(r'"(/[a-z]*)": \w+[,}]', read("watcher/web/application.py"))
    described = re.findall(r"^\| `(/[a-z]*)` \|", read("docs/operations.md"), re.MULTILINE)

    assert served == described
    assert len(served) > 1
