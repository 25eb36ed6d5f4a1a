#!/usr/bin/env bash
# A full PostgreSQL 17 with contrib and pgvector in a folder: Debian 13, by debootstrap. Needs root, and takes a minute.
#
#   scripts/full-postgres.sh install FOLDER        the system and the server's programs, once
#   scripts/full-postgres.sh start FOLDER PORT     a new, empty cluster on 127.0.0.1:PORT, to be thrown away
#   scripts/full-postgres.sh stop FOLDER
#
# The embedded server has no contrib, no TCP and an up-to-date pgvector. This one has what tests can not show on that:
# dblink, passwords, roles over TCP, a hot standby, pgvector 0.8.0. Its superuser is postgres, password postgres.
set -euo pipefail

MIRROR=${MIRROR:-http://deb.debian.org/debian}

usage() {
    sed -n '4,6s/^# *//p' "$0" >&2
    exit 2
}

inside() {
    LC_ALL=C.UTF-8 chroot "$FOLDER" "$@"
}

install() {
    command -v debootstrap >/dev/null || (apt-get update --quiet && apt-get install --yes --quiet debootstrap)
    debootstrap --variant=minbase --include=ca-certificates trixie "$FOLDER.new" "$MIRROR"
    cp /etc/resolv.conf "$FOLDER.new/etc/resolv.conf"
    mkdir -p "$FOLDER.new/etc/postgresql-common"
    echo "create_main_cluster = false" >"$FOLDER.new/etc/postgresql-common/createcluster.conf"
    FOLDER=$FOLDER.new inside env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet --no-install-recommends postgresql-17 postgresql-17-pgvector
    mv "$FOLDER.new" "$FOLDER"
}

start() {
    mountpoint --quiet "$FOLDER/proc" || mount --bind /proc "$FOLDER/proc"
    mountpoint --quiet "$FOLDER/dev" || mount --rbind /dev "$FOLDER/dev"
    inside pg_dropcluster --stop 17 test 2>/dev/null || true
    echo postgres >"$FOLDER/tmp/password"
    chmod 644 "$FOLDER/tmp/password"
    inside pg_createcluster --port "$1" 17 test -- \
        --auth=scram-sha-256 --pwfile=/tmp/password >/dev/null
    {
        echo "fsync = off"
        echo "max_connections = 200"
        echo "unix_socket_directories = ''"
    } >>"$FOLDER/etc/postgresql/17/test/postgresql.conf"
    inside pg_ctlcluster 17 test start
}

stop() {
    inside pg_dropcluster --stop 17 test || true
    umount --recursive "$FOLDER/dev" "$FOLDER/proc"
}

[ $# -ge 2 ] || usage
FOLDER=$(realpath --canonicalize-missing "$2")
case "$1" in
install) [ -d "$FOLDER" ] || install ;;
start) [ $# -eq 3 ] || usage; start "$3" ;;
stop) stop ;;
*) usage ;;
esac
