# The daemon with its locked dependencies, without any build or install tool. `make image` builds it;
# `make image-check` builds and tests it on a machine without a container engine.
#
# The base is pinned by its tag, which receives Python's and Debian's security fixes. For builds that are
# identical to the last bit, pin the digest that your registry shows:
#     --build-arg PYTHON=docker.io/library/python:3.11-slim-bookworm@sha256:…
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/watcher
COPY requirements-image.lock ./
# For an index other than PyPI: --secret id=pip,src=pip.conf. A secret, because its URL may hold a password.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/watcher install --no-cache-dir --require-hashes --no-deps --only-binary :all: \
        --requirement requirements-image.lock
COPY pyproject.toml LICENSE ./
COPY docs/package.md docs/
COPY rules rules
COPY watcher watcher
RUN pip --python /opt/watcher install --no-cache-dir --no-index --no-deps --no-build-isolation . \
    && pip --python /opt/watcher uninstall --yes setuptools

FROM ${PYTHON}
# The base ships no bytecode, and none can be written to a read-only file system: without this step each start
# takes a second longer.
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
# Watcher writes only to these two, so the rest can be mounted read-only. It reads watcher.toml from the second.
VOLUME ["/tmp", "/var/lib/watcher"]
WORKDIR /var/lib/watcher
USER 10001:10001
# http.client ignores the proxy variables, so no proxy answers for the loopback interface.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8080, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
# The daemon finishes its current work within 8 seconds. Docker kills after 10, ECS after 30.
STOPSIGNAL SIGTERM
ENTRYPOINT ["watcher"]
CMD ["run"]

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Watcher" \
      org.opencontainers.image.description="Watches Amazon SageMaker training jobs and alerts people when one goes wrong" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
