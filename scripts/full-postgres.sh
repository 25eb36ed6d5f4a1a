#!/usr/bin/env bash
# Installs a full PostgreSQL 17 with contrib and pgvector in a folder: Debian 13, by debootstrap. Needs root.
#
#   scripts/full-postgres.sh install FOLDER                 installs the system and the server, once
#   scripts/full-postgres.sh run FOLDER PORT COMMAND...     runs a command with a new primary and its hot standby
#
# The embedded server has no contrib, no TCP and an up-to-date pgvector. This one has what tests need beyond that:
# dblink, passwords, roles over TCP, a hot standby, and pgvector 0.8.0. It installs in about a minute. The primary
# listens on 127.0.0.1:PORT, the standby on the next port. Both run only while the command does. The superuser is
# postgres, with the password postgres. The command gets the URLs of the servers in TEST_FULL_POSTGRES and
# TEST_FULL_STANDBY, and how to run psql in TEST_FULL_PSQL.
set -euo pipefail

MIRROR=${MIRROR:-http://deb.debian.org/debian}
export PGPASSWORD=postgres

usage() {
    sed -n '4,5s/^# *//p' "$0" >&2
    exit 2
}

inside() {
    LC_ALL=C.UTF-8 chroot "$FOLDER" "$@"
}

install() {
    command -v debootstrap >/dev/null || (apt-get update --quiet && apt-get install --yes --quiet debootstrap)
    rm -rf "$FOLDER.new"
    mkdir -p "$(dirname "$FOLDER")"
    debootstrap --variant=minbase --include=ca-certificates trixie "$FOLDER.new" "$MIRROR"
    cp /etc/resolv.conf "$FOLDER.new/etc/resolv.conf"
    mkdir -p "$FOLDER.new/etc/postgresql-common"
    echo "create_main_cluster = false" >"$FOLDER.new/etc/postgresql-common/createcluster.conf"
    FOLDER=$FOLDER.new inside env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet --no-install-recommends postgresql-17 postgresql-17-pgvector
    mv "$FOLDER.new" "$FOLDER"
}

start() {
    mount -t proc proc "$FOLDER/proc"
    mkdir -p "$FOLDER/dev/shm"
    mount -t tmpfs tmpfs "$FOLDER/dev/shm"
    echo postgres >"$FOLDER/tmp/password"
    chmod 644 "$FOLDER/tmp/password"
    create primary "$PORT"
    inside pg_ctlcluster 17 primary start
    create standby "$((PORT + 1))"
    rm -rf "$FOLDER/var/lib/postgresql/17/standby"
    inside setpriv --reuid postgres --regid postgres --clear-groups pg_basebackup --host 127.0.0.1 --port "$PORT" \
        --username postgres --pgdata /var/lib/postgresql/17/standby --write-recovery-conf --checkpoint fast
    inside pg_ctlcluster 17 standby start
}

create() {
    inside pg_createcluster --port "$2" 17 "$1" -- \
        --auth-local=trust --auth-host=scram-sha-256 --pwfile=/tmp/password >/dev/null
    printf '%s\n' "fsync = off" "max_connections = 200" >>"$FOLDER/etc/postgresql/17/$1/postgresql.conf"
}

stop() {
    for cluster in standby primary; do
        inside pg_dropcluster --stop 17 $cluster 2>/dev/null || true
        rm -rf "$FOLDER/var/lib/postgresql/17/$cluster"
    done
}

run() {
    stop
    trap stop EXIT
    start
    TEST_FULL_POSTGRES="postgresql://postgres:postgres@127.0.0.1:$PORT/postgres" \
    TEST_FULL_STANDBY="postgresql://postgres:postgres@127.0.0.1:$((PORT + 1))/postgres" \
    TEST_FULL_PSQL="chroot $FOLDER /usr/lib/postgresql/17/bin/psql" \
        "$@"
}

[ $# -ge 2 ] || usage
FOLDER=$(realpath --canonicalize-missing "$2")
case "$1" in
install) [ -d "$FOLDER" ] || install ;;
run)
    [ $# -ge 4 ] || usage
    # Mounts are in a private namespace: other processes don't see them, and they end with the command. So removing the
    # folder, at any time, removes only the folder.
    exec unshare --mount --propagation private "$0" inside "${@:2}"
    ;;
inside)
    PORT=$3
    run "${@:4}"
    ;;
*) usage ;;
esac
