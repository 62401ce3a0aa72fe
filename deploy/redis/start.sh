#!/bin/sh
# start.sh [CONF]: starts the server of a bus, once there are users for it, and without losing what it wrote.
#
# Redis 7.0 to 8.2 and Valkey to 9.0 replay their append-only file as the user `default`, and ask its permissions
# again for what one transaction or one script wrote. Ours may only look: 7.0 then drops all of that and goes
# on, 7.2 does not start (redis/redis, issues 14541 and 14156). What is in the file's base is loaded without
# such questions. So if there are transactions behind the base, a server that knows no users and has no port
# folds them into it first. That costs one more loading, and nothing after a start without such writes.
set -eu

conf=${1:-/etc/redis/redis.conf}
socket=/tmp/fold.$$.sock # of this container's own /tmp

say() { echo "start.sh: $*" >&2; }
ask() { redis-cli -s "$socket" "$@" 2>/dev/null; }
loaded() { [ "$(ask ping)" = PONG ]; }
folded() { ask info persistence | grep -q '^aof_rewrite_in_progress:0' && ask info persistence | grep -q '^aof_rewrite_scheduled:0'; }

# wait_until CONDITION: while that server lives
wait_until() {
    until "$1"; do
        kill -0 "$server" 2>/dev/null || { say "the server that was to load the append-only file ended"; exit 1; }
        sleep 0.1
    done
}

# The container `access` refuses it, too; but a certificate and users of an earlier address may be there.
published=${MARKETSWARM_PUBLISH:-}
case "${published#::[fF][fF][fF][fF]:}" in
    '' | *[!0.:[\]]*) ;;
    *) say "MARKETSWARM_PUBLISH: $published means every network of this machine, those of tomorrow too: give the one address that the other machine can reach"; exit 2 ;;
esac

said() { sed -n "s/^$1  *//p" "$conf"; }
users=$(said aclfile)
if [ ! -e "$users" ]; then
    say "waits for $users: docker compose up bootstrap"
    until [ -e "$users" ]; do sleep 0.1; done
fi

if grep -qsi '^exec' "$(said dir)"/appendonlydir/*.incr.aof; then
    redis-server "$conf" --aclfile '' --port 0 --unixsocket "$socket" &
    server=$!
    wait_until loaded
    ask bgrewriteaof >/dev/null
    wait_until folded
    ask info persistence | grep -q '^aof_last_bgrewrite_status:ok' || { say "the append-only file can't be rewritten"; exit 1; }
    ask shutdown || true
    wait "$server" || true
fi

# With MARKETSWARM_PUBLISH other machines reach a second port, over TLS, and with a user and a password alone.
if [ -n "$published" ]; then
    pem=${TLS_FILE:-/etc/redis/tls/tls.pem}
    open() { grep -qs '^user default .*nopass' "$users"; }
    if [ ! -e "$pem" ] || open; then say "waits for $pem, and for a password of default: docker compose up access"; fi
    while [ ! -e "$pem" ] || open; do sleep 0.1; done
    set -- --tls-port "${TLS_PORT:-6390}" --tls-cert-file "$pem" --tls-key-file "$pem" --tls-auth-clients no
else
    set --
fi

exec redis-server "$conf" "$@"
