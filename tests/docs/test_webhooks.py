from __future__ import annotations

from tests.docs import webhook
from tests.docs.pages import code_blocks, read


def test_the_webhook_on_the_page_is_a_real_one():
    [shown] = code_blocks(read("docs/webhooks.md"), "json")

    assert shown.strip() == webhook.pretty(webhook.example()), "print it again: python -m tests.docs.webhook"
