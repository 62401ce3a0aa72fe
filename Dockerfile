# One image for every program of the fleet; which one, the command says.
#
# What changes seldom comes first: a change of the code repeats the last two steps alone.

ARG PYTHON=3.13
# by digest: docs/security.md, "Images by digest"
ARG PYTHON_IMAGE=python:${PYTHON}-slim

FROM ${PYTHON_IMAGE} AS base
# a user that is nobody on the host
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin marketswarm
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MARKETSWARM_ALIVE_FILE=/tmp/alive

# --- the packages, by hash ---
FROM base AS packages
RUN python -m venv --without-pip /venv \
 && echo /app >"$(echo /venv/lib/python3*/site-packages)/app.pth"
COPY --link --chmod=755 <<'PY' /venv/bin/marketswarm
#!/venv/bin/python
from marketswarm.cli import main

main()
PY
COPY --link requirements-image.lock /
# oncalendar, plain Python, is published as source alone; nothing else is built here
RUN --mount=type=cache,target=/cache/pip \
    pip --cache-dir /cache/pip --python /venv/bin/python install --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: --no-binary oncalendar -r /requirements-image.lock

# --- the code, compiled: the containers can't write ---
FROM base AS code
WORKDIR /app
COPY --link marketswarm marketswarm
COPY --link bootstrap bootstrap
COPY --link healer healer
COPY --link sentinel sentinel
COPY --link notifier notifier
COPY --link services services
RUN python -m compileall -q -j 0 .

# --- the same with the tests and what they need: docker build --target test . ---
FROM packages AS test
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && RUNLEVEL=1 apt-get install -y --no-install-recommends redis-server redis-tools openssl dbus-daemon
COPY --link requirements.lock /
RUN --mount=type=cache,target=/cache/pip \
    pip --cache-dir /cache/pip --python /venv/bin/python install --disable-pip-version-check --require-hashes --no-deps -r /requirements.lock
COPY --link --chown=10001:10001 . /app
WORKDIR /app
USER 10001:10001
CMD ["python", "-m", "pytest"]

# --- what runs ---
FROM base
# openssl for the certificate of MARKETSWARM_PUBLISH; pg_dump and pg_restore for the archive. No pg_dump saves a server that is newer than it is: Debian 13 has 17.
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get install -y --no-install-recommends postgresql-client openssl
# what the volumes `access`, `users`, `bus_tls`, `archive_backups` and `board_backtests` begin as
RUN install -d -o 10001 -g 10001 /access /access/acl /access/bus-tls && install -d -m 700 -o 10001 -g 10001 /backups /backtests
COPY --link --from=packages /venv /venv
COPY --link --from=code /app /app
WORKDIR /app
USER 10001:10001
CMD ["marketswarm", "--help"]
