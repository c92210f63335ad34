"""The image without a container engine: buildah builds it on a base made by debootstrap (`base.sh`), and runs
it in a chroot whose root file system is mounted read-only, as ECS does with `readonlyRootFilesystem`.

Needs Linux, root, buildah and debootstrap. Slow build results are kept in `build/image`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements-image.lock"
KEPT = ROOT / "build" / "image"
BUILDAH = ("buildah", "--root", f"{KEPT}/storage", "--runroot", f"{KEPT}/run")
IMAGE = "localhost/watcher:check"


def what_is_missing() -> str:
    """What to install on this machine first; empty when it has everything."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "make image-check makes a root file system: run it as root, on Linux"
    if tools := [tool for tool in ("buildah", "debootstrap") if not shutil.which(tool)]:
        return f"apt-get install {' '.join(tools)}"
    return ""


def build() -> None:
    """Run `make image`, with local replacements for what an engine would fetch from a registry and PyPI."""
    [base] = re.findall(r"^ARG PYTHON=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    if not _done(*BUILDAH, "images", "--quiet", "--filter", f"reference={base}"):
        _done(str(Path(__file__).with_name("base.sh")), base, *BUILDAH)
    wheels = _wheels()
    pip = KEPT / "pip.conf"
    pip.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    flags = f"--isolation chroot --pull-never --secret id=pip,src={pip} --volume {wheels}:/wheels:ro"
    _done("make", "image", f"ENGINE={' '.join(BUILDAH)}", f"TAG={IMAGE}", f"IMAGE_FLAGS={flags}")
    _done(*BUILDAH, "rmi", "--prune")  # the previous image, which has lost its name


def _wheels() -> Path:
    """The locked wheels, from the index configured for pip on this machine."""
    wheels = KEPT / "wheels"
    fetched = wheels / LOCK.name
    if not (fetched.exists() and fetched.read_bytes() == LOCK.read_bytes()):
        shutil.rmtree(wheels, ignore_errors=True)
        words = ("--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(LOCK), "-d", str(wheels))
        _done(sys.executable, "-m", "pip", "download", "--quiet", *words)
        shutil.copy(LOCK, fetched)
    return wheels


def _done(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


# buildah cannot mount the root read-only. So root does it inside the container, and then becomes the image's
# user without capabilities, like an engine's `--read-only --cap-drop ALL --security-opt no-new-privileges`.
READ_ONLY = """
mount -o remount,bind,ro /
exec setpriv --reuid ${0%:*} --regid ${0#*:} --clear-groups --bounding-set -all --no-new-privs -- "$@"
"""


class Container:
    """One container of the image. It has its own volumes; everything else is read-only."""

    def __init__(self) -> None:
        self.name = _done(*BUILDAH, "from", "--pull-never", IMAGE)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The image's run configuration from the Dockerfile, with Docker's keys."""
        config: dict[str, Any] = json.loads(_done(*BUILDAH, "inspect", self.name))["Docker"]["config"]
        return config

    @property
    def size(self) -> str:
        """The uncompressed size of its image, like `366 MB`."""
        return _done(*BUILDAH, "images", "--format", "{{.Size}}", IMAGE)

    def command(self, *words: str, **environment: str) -> list[str]:
        variables = (f"--env={name}={value}" for name, value in environment.items())
        as_root = ("--isolation", "chroot", "--user", "0:0", "--cap-add", "CAP_SYS_ADMIN")
        become = ("sh", "-e", "-c", READ_ONLY, self.config["User"])
        return [*BUILDAH, "run", *as_root, *variables, self.name, "--", *become, *words]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = self.command(*words, **environment)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _done(*BUILDAH, "rm", self.name)


def innermost(process: subprocess.Popen[str]) -> psutil.Process:
    """The process inside the container, because buildah, unlike an engine, does not pass signals on to it."""
    return psutil.Process(process.pid).children(recursive=True)[-1]
