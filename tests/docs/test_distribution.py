"""What a package index shows, and how documents and errors say to install Watcher."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = ("watcher", "rules", "deploy", "docs", "tests")


def texts() -> dict[Path, str]:
    """Every file that people write: the folders above, and the files at the top of the checkout."""
    files = [file for file in ROOT.iterdir() if file.is_file()]
    for folder in SOURCES:
        files += (
            file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts
        )
    return {file: file.read_text(errors="replace") for file in files}


def test_the_license_is_declared_and_its_full_text_is_included():
    text = (ROOT / "LICENSE").read_text()

    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_package_page_refers_to_no_local_file():
    page = (ROOT / PROJECT["readme"]).read_text()

    targets = re.findall(r"\]\(([^)]+)\)", page) + re.findall(r"""(?:src|href)=["']([^"']+)""", page)

    assert [target for target in targets if not target.startswith("https://")] == []


def test_no_text_says_to_install_watcher_from_an_index():
    install = re.compile(rf"\b(?:install|add|run)\b[^\n`]*\b{PROJECT['name']}\b")

    assert [str(file) for file, text in texts().items() if install.search(text)] == []
