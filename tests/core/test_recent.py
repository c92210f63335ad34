"""The last few of something."""

from watcher.lru import Recent


def test_the_newest_stay_and_what_is_put_again_is_new():
    recent = Recent[int](2)
    for key in ("a", "b", "a", "c"):
        recent.put(key, len(key))

    assert [key for key in "abc" if recent.get(key)] == ["a", "c"]


def test_what_is_taken_out_is_gone():
    recent = Recent[str](2)
    recent.put("a", "one")

    assert (recent.pop("a"), recent.pop("a"), recent.get("a")) == ("one", None, None)
