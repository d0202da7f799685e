#!/bin/sh
# Writes .env for compose.yaml, with secrets made up here, readable by you alone. Changes nothing that is there.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
    echo ".env is there already and stays as it is. Edit it, or move it away to get a new one." >&2
    exit 1
fi
secret() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
postgres=$(secret 24) redis=$(secret 24) owner=$(secret 8)
umask 077
cat >.env <<END
# The first owner, made at the very first start.
ATELIER_OWNER=owner
ATELIER_OWNER_PASSWORD=$owner
ATELIER_WORKSPACE=main

# Where people and scripts reach the studio. For others than this machine: ATELIER_BIND=0.0.0.0 and your own address.
ATELIER_BIND=127.0.0.1
ATELIER_PORT=8700
ATELIER_URL=

# The database and the broker of compose.yaml; the addresses repeat the passwords.
POSTGRES_PASSWORD=$postgres
REDIS_PASSWORD=$redis
DATABASE_URL=postgres://atelier:$postgres@postgres:5432/atelier
REDIS_URL=redis://:$redis@redis:6379/0
END
echo "Wrote .env. Next: docker compose up -d"
echo "Then sign in at http://127.0.0.1:8700 as owner with password $owner (it is in .env too)."
