"""What the documents link to or name exists."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCUMENTS, ROOT, anchors, read

NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]
PATH = re.compile(r"`((?:watcher|rules|tests|deploy|docs|sandbox)/[\w./-]*\w/?|[\w-]+/[\w./-]+\.py)`")


@pytest.mark.parametrize("name", NAMES)
def test_every_link_points_to_an_existing_file_and_heading(name: str):
    text, folder = read(name), (ROOT / name).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://", target):
            continue
        path, _, anchor = target.partition("#")
        file = folder / path if path else ROOT / name

        assert file.resolve().is_relative_to(ROOT), target
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("name", NAMES)
def test_every_link_works_in_a_source_distribution_too(name: str):
    folders = set(re.findall(r"^graft (\w+)$", read("MANIFEST.in"), re.MULTILINE))
    folder = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)\s:#]+)[)#]", read(name)):
        path = (folder / target).resolve().relative_to(ROOT)

        assert path.parts[0] in {*folders, "LICENSE"} or (path.suffix == ".md" and len(path.parts) == 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_a_document_names_exists(name: str):
    missing = [
        path
        for path in PATH.findall(read(name))
        if not (ROOT / path).exists() and not (ROOT / "watcher" / path).exists()
    ]

    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_that_a_document_names_exists(name: str):
    targets = set(re.findall(r"^([a-z0-9-]+):", read("Makefile"), re.MULTILINE))

    assert set(re.findall(r"(?:`|^(?:    )?)make ([a-z0-9-]+)", read(name), re.MULTILINE)) <= targets


def test_the_index_names_every_page():
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    index = read("docs/README.md")

    assert {page for page in pages if f"]({page})" in index or f"`{page}`" in index} == pages
