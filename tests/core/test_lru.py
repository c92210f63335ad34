"""A cache that drops the least recently used value."""

from watcher.lru import LruCache


def test_the_newest_values_stay_and_putting_a_value_again_renews_it():
    cache = LruCache[int](2)
    for key in ("a", "b", "a", "c"):
        cache.put(key, len(key))

    assert [key for key in "abc" if cache.get(key)] == ["a", "c"]


def test_a_value_that_is_read_stays():
    cache = LruCache[str](2)
    cache.put("a", "one")
    cache.put("b", "two")
    cache.get("a")
    cache.put("c", "three")

    assert [key for key in "abc" if cache.get(key)] == ["a", "c"]


def test_a_popped_value_is_gone():
    cache = LruCache[str](2)
    cache.put("a", "one")

    assert (cache.pop("a"), cache.pop("a"), cache.get("a")) == ("one", None, None)
