#!/bin/sh
# The words of the Makefile that are about a fleet that runs: the one on this machine (make run), or that in
# containers (make up), whichever it is. Only up, down, ps and logs are about containers alone.
#
#   tools/fleet.sh up|down|ps|logs [what docker compose takes]
#   tools/fleet.sh seed|status|alerts|health|doctor|simulate [what marketswarm takes]
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*"; }
stop() { code=$1; shift; printf '%s\n' "$@" >&2; exit "$code"; }
quietly() { docker compose --progress quiet "$@"; }

# --- whose fleet is it? ---

buses_are_told() { env | grep -qE '^([A-Z_]+_)?REDIS_URL(_FILE)?=.'; }

runs_here() {
    pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "${MARKETSWARM_DATA:-.marketswarm}/fleet.json" 2>/dev/null)
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

runs_in_containers() {
    command -v docker >/dev/null 2>&1 && [ -n "$(docker compose ps --quiet --status running 2>/dev/null)" ]
}

# --- the command line: in .venv, or in a container as the operator ---

here() {
    sh tools/environment.sh run
    exec .venv/bin/marketswarm "$@"
}

as_operator() {
    [ -t 0 ] && [ -t 1 ] && terminal= || terminal=-T
    quietly run --rm $terminal -e USER="$(id -un)" -e NO_COLOR operator "$@"
}

seed() {
    # users first: a service that is new must be let in before it is told of
    said=$(quietly run --rm -T access 2>&1) || { in_words "$said" >&2; exit 2; }
    as_operator seed "$@"
}

# `marketswarm simulate --by-hand` says when; whatever ends it, what was stopped is started again: after Ctrl-C, when the
# terminal is closed, which nothing can be written to any more, and when docker fails
simulate() {
    svc=$1
    { as_operator simulate --by-hand "$@" </dev/null || say "code $?"; } | {
        trap '' INT HUP TERM PIPE
        stopped='' code=0
        while read -r line; do
            case $line in
            "stop $svc now") stopped=$svc; quietly stop "$svc" </dev/null || { code=$?; break; }; say "$svc stopped" || : ;;
            "start $svc now") quietly start "$svc" </dev/null || { code=$?; break; }; stopped=''; say "$svc started" || : ;;
            "code "*) code=${line#code } ;;
            *) say "$line" || : ;;
            esac
        done
        [ -z "$stopped" ] || quietly start "$stopped" </dev/null
        exit "$code"
    }
}

# --- containers ---

need_docker() {
    command -v docker >/dev/null 2>&1 || stop 2 "There is no docker here. On this machine alone: make run"
    docker compose version >/dev/null 2>&1 || stop 2 "This docker has no compose plugin: docs/containers.md"
    docker info >/dev/null 2>&1 || stop 2 "docker does not answer: $(docker info 2>&1 | grep -i error | head -n 1)"
}

# that of the buses, which compose does not make; one of compose.tls.yaml it does
network() {
    said=$(docker compose config) || exit
    printf '%s\n' "$said" | sed -n '/^networks:/,/^[^ n]/{/^  marketswarm-bus:/,/^  [^ ]/s/^    name: //p;}'
}

# on a terminal Compose draws what it does; elsewhere that would be a line for each step of each container
progress() { if [ -t 2 ]; then echo auto; else echo quiet; fi; }

up() {
    bus=$(network) || exit
    if ! docker network inspect "$bus" >/dev/null 2>&1; then
        docker network create "$bus" >/dev/null
        say "The network $bus is made."
    fi
    say "Building the image: seconds, the first time a minute or two."
    docker compose build --quiet
    begun=$(date +%s)
    docker compose --progress "$(progress)" up --detach "$@" && restart_outdated "$@" && wait_until_well "$@" || why_not
    summary $(($(date +%s) - begun))
}

# Compose makes a container anew if its description changed, but not if a file did that is mounted: it would go on with what
# it read at its start. So restart such a container, one after the other; not if some were named to be started.
restart_outdated() {
    [ $# -eq 0 ] || return 0
    for svc in $(outdated); do
        say "$svc is restarted: a file in deploy/ changed that it reads at its start."
        quietly restart "$svc" && quietly up --detach --no-deps --wait "$svc" || return
    done
}

# the services that run, and began before a file of theirs in deploy/ was written; the board reads its brand at any time
outdated() {
    of_mount='{{$.State.StartedAt}} {{index $.Config.Labels "com.docker.compose.service"}} {{.Source}}{{println}}'
    # shellcheck disable=SC2046 - ids of containers are words
    docker inspect --format "{{range .Mounts}}{{if eq .Type \"bind\"}}$of_mount{{end}}{{end}}" \
        $(docker compose ps --quiet --status running) 2>/dev/null |
        while read -r started svc path; do
            case $path in
            */deploy/brand) ;;
            "$PWD"/deploy/* | "$(pwd -P)"/deploy/*)
                [ -z "$(find "$path" -type f -newermt "$started" 2>/dev/null)" ] || say "$svc" ;;
            esac
        done | sort -u
}

# The gate of compose.market.yaml ends once it is open, which --wait takes for a failure of what nobody depends on;
# who waits for it is well when it is open.
wait_until_well() {
    # shellcheck disable=SC2046 - names of services are words
    [ $# -gt 0 ] || set -- $(docker compose config --services | grep -vx gate)
    docker compose --progress quiet up --detach --wait "$@"
}

# what a container's log says of a mistake, for a person
in_words() {
    printf '%s\n' "$1" | sed -n -e 's/^[^{]*{.*"\(problem\|message\)":"\(.*\)".*/  \2/' -e 's/","[a-z_]*":.*//' -e 's/\\"/"/g' -e '/^  /p'
}

state_of() { docker compose ps --all --format '{{.State}} {{.ExitCode}}' "$1" 2>/dev/null; }

# the address of MARKETSWARM_PUBLISH, of the shell or of .env
published() { docker compose config 2>/dev/null | sed -n 's/^ *MARKETSWARM_PUBLISH: //p' | tr -d "'\"" | grep -vx null | head -n 1; }

# after docker said what failed: what lies behind it
why_not() {
    [ -n "$(state_of access)" ] || stop 1 "" "Nothing was started."
    for shot in access bootstrap; do
        case $(state_of $shot) in
        "exited 0") ;;
        exited*) stop 1 "" "$shot failed:" "$(in_words "$(docker compose logs --no-log-prefix --since "$begun" $shot 2>&1)")" ;;
        esac
    done
    case $(state_of gate) in # of compose.market.yaml
    "" | "exited 0") ;;
    *) stop 1 "" "The gate of the market's sources is closed:" \
        "$(docker compose logs --no-log-prefix --since "$begun" gate 2>&1 | grep -v '{"ts"')" "" "It is tried again, and the readers begin once it opens: make status" ;;
    esac
    for bus in system-redis market-redis; do
        case $(state_of $bus) in
        created*)
            address=$(published)
            [ -z "$address" ] || stop 1 "" "$bus did not start. MARKETSWARM_PUBLISH is $address: it has to be one address of this host," \
                "such as 192.0.2.10, never all of them, and the ports of the buses and of the board free there."
            stop 1 "" "$bus did not start. If its port is taken, name others, here or in .env:" \
                "  make up SYSTEM_REDIS_PORT=7379 MARKET_REDIS_PORT=7380" ;;
        restarting* | exited*) stop 1 "" "$bus ended:" "$(docker compose logs --no-log-prefix --tail 5 $bus 2>&1)" ;;
        esac
    done
    docker compose ps --all >&2
    stop 1 "" "Not all are well. What one says: make logs SVC=healer"
}

port_of() { docker compose port "$1" "${2:-6379}" 2>/dev/null | sed 's/.*://'; }

needs_password() { docker compose exec -T system-redis redis-cli ping 2>/dev/null | grep -q NOAUTH; }

# with MARKETSWARM_PUBLISH; without it, the port for other machines is one of 127.0.0.1
other_machines() {
    at=$(docker compose port system-redis 6390 2>/dev/null)
    case $at in "" | 127.0.0.1:*) return 0 ;; esac
    address=${at%:*}
    case $address in \[*) ;; *:*) address="[$address]" ;; esac
    fingerprint=$(docker compose logs --no-log-prefix access 2>/dev/null |
        sed -n 's/.*"event":"access\.published".*"fingerprint":"\([0-9a-f]*\)".*/\1/p' | tail -n 1)
    say "On another machine, in a folder for it:"
    say "  marketswarm join rediss://join@$address:${at##*:} \\"
    say "    --fingerprint $fingerprint"
    say "It asks for the password: docker compose run --rm access cat /access/secrets/join"
    say ""
}

hint() { printf '  %-45s  %s\n' "$@"; }

summary() {
    system=$(port_of system-redis)
    running=$(docker compose ps --status running --services | grep -v -- -redis | tr '\n' ' ')
    ways=$(docker compose logs --no-log-prefix notifier 2>/dev/null | grep '"event":"channels\.' | tail -n 1 |
        sed -n 's/.*"channels":\["\(.*\)"\].*/\1/p' | sed 's/","/, /g')
    say ""
    say "All containers are well, $1 s after their start."
    say ""
    say "  system-redis  redis://127.0.0.1:$system"
    say "  market-redis  redis://127.0.0.1:$(port_of market-redis)"
    say "  services      $running"
    board=$(port_of board 8080)
    [ -z "$board" ] || say "  board         http://127.0.0.1:$board"
    if needs_password; then
        say "  users         one a service; whoever has none may not even look at the buses"
    else
        say "  users         one a service; whoever has none may look at the buses, and no more"
    fi
    say ""
    if [ -n "$ways" ]; then
        say "Notifications: $ways"
    else
        say "Nobody is notified: set WEBHOOK_URL in .env, or see docs/notifications.md for other ways."
    fi
    say ""
    say "In this folder:"
    hint "make status" "who is up and who is down"
    hint "make alerts" "follow the alerts"
    needs_password || hint "redis-cli -p $system SUBSCRIBE healer:alerts" "the same, raw"
    hint "make simulate SVC=rss_agg" "stop it, read the miss, start it"
    hint "make logs SVC=healer" "what it says"
    say ""
    other_machines
    say "make down ends all of it; what is on the buses stays."
}

down() {
    docker compose --progress "$(progress)" --profile '*' down "$@"
    say "The containers are gone."
    case " $* " in
    *" -v "* | *" --volumes "*) ;;
    *) say "Data and passwords stay in the volumes; make down ARGS=-v removes them." ;;
    esac
}

logs() {
    [ -t 1 ] && set -- --follow "$@"
    docker compose logs --tail 100 "$@"
}

# DEV=1, TLS=1, HEALING=1: compose.dev.yaml and so on, over the files that there are
add_file() {
    files=$(set_to COMPOSE_FILE)
    if [ -z "$files" ]; then
        files=compose.yaml
        [ ! -e compose.override.yaml ] || files=$files:compose.override.yaml
    fi
    case :$files: in *:"$1":*) ;; *) files=$files:$1 ;; esac
    export COMPOSE_FILE="$files"
}

# and the truth by which medic acts on the services of these files; it takes the place of the one in force, so that is said
heal() {
    add_file compose.healing.yaml
    [ -z "$(set_to TRUTH_FILE)" ] || return 0
    truth=./examples/healing-fleet.json
    case :$COMPOSE_FILE: in
    *:compose.market.yaml:*) truth=./examples/healing-market.json; export TRUTH_FILE="$truth" ;;
    esac
    [ "$word" != up ] || say "The truth is $truth, and no other. To keep one of yours, name it by TRUTH_FILE: docs/containers.md"
}

# what a variable is set to, by the shell or by .env
set_to() {
    printenv "$1" || sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1
}

word=$1
shift
case ${DEV:-0} in 1) add_file compose.dev.yaml ;; esac
case ${TLS:-0} in 1) add_file compose.tls.yaml ;; esac
case ${HEALING:-0} in 1) heal ;; esac
case $word in
up | down | logs) need_docker; $word "$@" ;;
ps) need_docker; docker compose ps "$@" ;;
seed | status | alerts | health | doctor | simulate)
    if ! buses_are_told && ! runs_here; then
        if runs_in_containers; then
            case $word in
            seed | simulate) $word "$@" ;;
            *) as_operator "$word" "$@" ;;
            esac
            exit
        fi
        [ -e .venv/made-of ] || stop 3 "No fleet runs here. make run starts one on this machine, make up one in containers."
    fi
    here "$word" "$@"
    ;;
*) stop 2 "tools/fleet.sh: there is no $word" ;;
esac
