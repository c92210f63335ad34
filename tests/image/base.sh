#!/bin/bash
# A stand-in for the official Python image, where neither a container engine nor a registry is in reach:
# Debian's own Python, laid out as in python:3.11-slim-bookworm (python and pip in /usr/local, no bytecode).
#
#     base.sh NAME BUILDAH…       # BUILDAH…: the command, with the storage it is to use
#
# Needs root, debootstrap and a Debian mirror: DEBIAN_MIRROR, else Debian's own.
set -euo pipefail

name=$1
buildah=("${@:2}")

container=$("${buildah[@]}" from scratch)
trap '"${buildah[@]}" rm "$container" >/dev/null' EXIT
tree=$("${buildah[@]}" mount "$container")

debootstrap --variant=minbase --include=ca-certificates,tzdata,python3,python3-venv \
    bookworm "$tree" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}

chroot "$tree" bash -eu <<'IN_THE_TREE'
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ln -s /usr/bin/python3.11 /usr/local/bin/python3.11
ln -s python3.11 /usr/local/bin/python3
ln -s python3 /usr/local/bin/python
rm /usr/lib/python3.11/EXTERNALLY-MANAGED
wheels=/usr/share/python-wheels
PYTHONPATH=$(echo $wheels/pip-*.whl) python3 -m pip --isolated --quiet install --root-user-action ignore \
    --no-index --find-links $wheels --ignore-installed pip setuptools
apt-get clean
rm -rf $wheels /var/lib/apt/lists/* /usr/share/{doc,man,locale}/*
find / -xdev -name __pycache__ -prune -exec rm -rf {} +
IN_THE_TREE

"${buildah[@]}" config --cmd python3 \
    --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
"${buildah[@]}" commit --quiet --format docker "$container" "$name"
