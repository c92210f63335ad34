"""What can be tested of the image without building it; `make image-check` builds it and tests it."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from watcher.config.settings import Config

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def locked(lock: str) -> dict[str, str]:
    """Each package of a lock file with its version and hashes."""
    entries = re.findall(
        r"^([a-z][a-z0-9.-]*)(==.*?\n)(?=\S|    #|\Z)", (ROOT / lock).read_text(), re.M | re.S
    )
    return dict(entries)


def needed(name: str, extras: frozenset[str] = frozenset()) -> Iterator[str]:
    """A distribution and all its dependencies on this platform, from installed metadata."""
    yield canonicalize_name(name)
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        ):
            yield from needed(requirement.name, frozenset(requirement.extras))


def test_hadolint_finds_no_problem():
    hadolint = Path(sys.executable).with_name("hadolint")

    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_image_installs_the_tested_packages_by_hash():
    everything, image = locked("requirements.lock"), locked("requirements-image.lock")

    assert image
    assert image.items() <= everything.items()


def test_the_image_installs_only_what_the_daemon_and_its_plots_need():
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    building = {Requirement(text).name for text in document["build-system"]["requires"]}
    working = set(needed(document["project"]["name"], frozenset({"plot"})))

    assert set(locked("requirements-image.lock")) == working - {document["project"]["name"]} | building


def test_the_health_check_uses_the_default_address_of_the_status_page():
    host, _, port = Config().http.listen.partition(":")

    assert f"C('{host}', {port}, timeout=4)" in DOCKERFILE


def test_the_files_copied_into_the_image_build_the_wheel_with_its_license(tmp_path: Path):
    copied = re.findall(r"^COPY (?!--)(.+) (\S+)$", DOCKERFILE, re.MULTILINE)
    for sources, target in copied:
        for source in sources.split():
            to = tmp_path / target / (source.rpartition("/")[2] if target.endswith("/") else "")
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__", "sandbox"))
            else:
                shutil.copy(ROOT / source, to)
    build = "import setuptools.build_meta as build; build.build_wheel('dist')"

    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, check=True)

    [wheel] = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name.partition("dist-info/")[2]: name for name in archive.namelist() if "dist-info/" in name}
        assert archive.read(files["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()
        metadata = email.message_from_bytes(archive.read(files["METADATA"]))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# Watcher\n")


def test_the_build_context_has_each_file_that_the_image_copies():
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = " ".join(re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)).split()

    assert sorted(copied) == sorted(allowed)
