#!/usr/bin/env bash
# A full PostgreSQL 17 with contrib and pgvector in a folder: Debian 13, by debootstrap. Needs root, and takes a minute.
#
#   scripts/full-postgres.sh install FOLDER                 the system and the server's programs, once
#   scripts/full-postgres.sh run FOLDER PORT COMMAND...     runs a command beside a new primary and its hot standby
#
# The embedded server has no contrib, no TCP and an up-to-date pgvector. This one has what tests cannot show on that:
# dblink, passwords, roles over TCP, a hot standby, pgvector 0.8.0. The primary is on 127.0.0.1:PORT, the standby on the
# port after it, both for the command alone; the superuser is postgres, password postgres. The command is told by
# TEST_FULL_POSTGRES, TEST_FULL_STANDBY (URLs) and TEST_FULL_PSQL (how to run psql).
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
    # Mounts are made in a namespace of their own: nobody else sees them, and none outlives the command. What removes
    # the folder, at any time, removes the folder.
    exec unshare --mount --propagation private "$0" inside "${@:2}"
    ;;
inside)
    PORT=$3
    run "${@:4}"
    ;;
*) usage ;;
esac
