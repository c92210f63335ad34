# The daemon with its locked dependencies, and nothing that builds or installs. `make image` builds it, and
# `make image-check` builds and tries it where no container engine runs.
#
# The base is pinned by its tag, which gets Python's and Debian's security fixes. Where builds have to be the
# same to the last bit, pin the digest that your registry shows:
#     --build-arg PYTHON=docker.io/library/python:3.11-slim-bookworm@sha256:…
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/watcher
COPY requirements-image.lock ./
# Another index than PyPI: --secret id=pip,src=pip.conf. A secret, since its address may hold a password.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/watcher install --no-cache-dir --require-hashes --no-deps --only-binary :all: \
        --requirement requirements-image.lock
COPY pyproject.toml README.md ./
COPY rules rules
COPY watcher watcher
RUN pip --python /opt/watcher install --no-cache-dir --no-index --no-deps --no-build-isolation . \
    && pip --python /opt/watcher uninstall --yes setuptools

FROM ${PYTHON}
# The base has no bytecode, and on a read-only file system would never get any: each start would take a second
# longer.
RUN pip uninstall --yes --root-user-action ignore pip setuptools wheel \
    && python -c "import compileall, sysconfig; compileall.compile_dir(sysconfig.get_path('stdlib'), quiet=1)" \
    && useradd --uid 10001 --home-dir /var/lib/watcher --shell /usr/sbin/nologin watcher \
    && install --directory --owner watcher --group watcher --mode 0750 /var/lib/watcher
COPY --from=build /opt/watcher /opt/watcher
ENV PATH=/opt/watcher/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/watcher \
    MPLCONFIGDIR=/tmp/matplotlib
# All that is ever written to, so the rest may be mounted read-only. watcher.toml is looked for in the second.
VOLUME ["/tmp", "/var/lib/watcher"]
WORKDIR /var/lib/watcher
USER 10001:10001
# By http.client, which knows no proxy: those in the environment are for the world outside.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8080, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
# The daemon ends within 8 seconds, and what is under way with it; Docker kills after 10, ECS after 30.
STOPSIGNAL SIGTERM
ENTRYPOINT ["watcher"]
CMD ["run"]

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Watcher" \
      org.opencontainers.image.description="Watches Amazon SageMaker training jobs and tells people what went wrong" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
