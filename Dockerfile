# One target per service, from one set of packages: docker build --target ledger -t aetheris-ledger .
#
# Gateway and runner run under Aeterna: `kill -HUP 1` in the container upgrades them in place.
#
# Every third-party package is checked against its hash. The images run as an unprivileged user, write only to
# /tmp, and hold neither a compiler nor pip. BASE may be any image with Python 3.11 or newer and its venv module.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
# /tools builds this tree's own packages; it does not reach the images.
WORKDIR /src
COPY requirements.lock ./
RUN python3 -m venv /tools \
    && /tools/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY services/requirements.lock services/
RUN python3 -m venv --without-pip /opt/aetheris \
    && /tools/bin/pip --python /opt/aetheris/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
       --require-hashes -r services/requirements.lock
COPY libs libs
COPY services services
# Every package of the tree but the one that starts a PostgreSQL of its own.
RUN rm -r libs/embedded \
    && /tools/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels ./libs/*/ ./services/*/ \
    && /tools/bin/pip --python /opt/aetheris/bin/python install --quiet --no-index --no-deps /wheels/*.whl

FROM ${BASE} AS service
COPY --from=build /opt/aetheris /opt/aetheris
ENV PATH=/opt/aetheris/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
# A number and not a name: Kubernetes (runAsNonRoot) can only check a number.
USER 10001:10001

FROM service AS gateway
COPY services/gateway/aeterna.yaml /etc/aetheris/aeterna.yaml
EXPOSE 8080 9090 9094
ENTRYPOINT ["aeterna", "start", "-c", "/etc/aetheris/aeterna.yaml"]

FROM service AS scheduler
EXPOSE 9091
ENTRYPOINT ["python", "-m", "aetheris_scheduler"]

FROM service AS ledger
EXPOSE 9093
ENTRYPOINT ["python", "-m", "aetheris_ledger"]

FROM service AS runner
COPY services/runner/aeterna.yaml /etc/aetheris/aeterna.yaml
EXPOSE 9092
ENTRYPOINT ["aeterna", "start", "-c", "/etc/aetheris/aeterna.yaml"]
