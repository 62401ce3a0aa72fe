# What .ci/run and .ci/nightly share: they bring what tests need, make one part after the other, show a red one at once,
# and end with the seconds of each part and pytest's summary of all. Sourced from the root of the checkout.
set -uo pipefail
export MARKETSWARM_CI=1 # a test that would be skipped for a missing program fails
unset PYTHONDONTWRITEBYTECODE # what pytest makes of the tests' assertions is made once, not by each worker
# A checkout may be new each time. What failed before runs first, so pytest's cache is kept beside the user's others.
PYTEST_ADDOPTS="-o cache_dir=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/marketswarm/pytest ${PYTEST_ADDOPTS:-}"
export PYTEST_ADDOPTS
log=$(mktemp)
waited=()
red=()
logs=()
took=()
trap 'end' EXIT

end() {
    [ ${#waited[@]} = 0 ] || wait "${waited[@]}"
    [ ! -e "$log.engine" ] || bash "$engine" down >/dev/null 2>&1
    rm -f "$log" "$log".*
}

# a program that tests need, then the package that has it
parts="redis-cli redis-tools
openssl openssl
redis-server redis-server
faketime faketime
curl curl
prometheus prometheus
node nodejs
chromium-headless-shell chromium-headless-shell
go golang-go
kubectl kubernetes-client
systemd-analyze systemd
dbus-daemon dbus-daemon
ip iproute2
script bsdutils
caddy caddy"

missing() { while read -r program package; do command -v "$program" >/dev/null || echo "$package"; done <<<"$parts"; }

# tests/compose and the tests on the image's Python need a container engine: one that answers, or the one that
# lies ready beside this checkout. Where there is none they are skipped, and the end says so.
engine=$PWD/../shared/tools/engine.sh
use_engine() { [ ! -f "$engine" ] || eval "$(bash "$engine" env 2>/dev/null)"; }
has_engine() { docker version >/dev/null 2>&1; }

bring() { # what tests need and this machine lacks: packages, then an engine
    local packages code=0
    mapfile -t packages < <(missing)
    if [ ${#packages[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # 1: a package must not start a server of its own
        apt-get update && apt-get install -y --no-install-recommends "${packages[@]}" || code=1
    fi
    use_engine
    if ! has_engine && [ -f "$engine" ]; then
        touch "$log.engine" # the end puts down what was brought up
        bash "$engine" up || code=1
    fi
    return $code
}

beside() { # beside NAME COMMAND…: run it in the background, with a log; `meet NAME` waits for it
    local name=$1
    shift
    { time "$@"; } >"$log.$name" 2>&1 &
    eval "pid_$name=$!"
    waited+=($!)
}

meet() { # wait for what runs beside; its exit code
    local pid="pid_$1"
    wait "${!pid}"
}

step() { # step NAME COMMAND…: no part with tests, but its seconds count, and it may be red
    local name=$1 begun=$SECONDS
    shift
    echo "== $*"
    "$@" || red+=("$*")
    took+=("$name $((SECONDS - begun))")
}

part() { # part NAME MAKE-WORDS…: a part with tests; its log is kept for the sum
    local name=$1 begun=$SECONDS
    shift
    echo "== make $*"
    logs+=("$name=$log.$name")
    make "$@" 2>&1 | tee "$log.$name" || {
        if may_run_again "$log.$name" && again "$log.$name.again" "$@"; then
            flaky+=("$(grep -aE "$failed" "$log.$name" | grep -vE ' \((setup|call|teardown)\)$')")
            logs[-1]+=",$log.$name.again"
        else
            red+=("make $*")
            echo "== RED: make $* (each failure above has the command that runs it alone)"
        fi
    }
    took+=("$name $((SECONDS - begun))")
}

# A machine of two processors runs six tests at once. A test that fails there and passes alone, of more than twelve
# thousand, is a fault to mend, and named at the end; it does not refuse what it has nothing to do with. Where more fail
# than a busy moment explains, and in the night (`again_at_most=0`), a failure is red at once.
failed='^(FAILED|ERROR) tests/'
again_at_most=3
flaky=()

may_run_again() { # may_run_again LOG: whether a few tests failed, and nothing else is wrong
    local count
    count=$(grep -aE "$failed" "$1" | grep -cvE ' \((setup|call|teardown)\)$') # not those that are shown at once
    [ "$count" -ge 1 ] && [ "$count" -le $again_at_most ] && ! grep -aq 'left behind by tests' "$1"
}

again() { # again LOG MAKE-WORDS…: what failed once more, one after the other, beside nothing else
    local to=$1 word words=() args=""
    shift
    for word in "$@"; do
        case $word in
        ARGS=*) args="${word#ARGS=} " ;;
        *) words+=("$word") ;;
        esac
    done
    words+=("ARGS=$args--last-failed --last-failed-no-failures=none -n 0")
    echo "== once more, alone: make ${words[*]}"
    make "${words[@]}" 2>&1 | tee "$to"
}

finish() {
    printf '== seconds: %s, all %s\n' "$(printf '%s, ' "${took[@]}" | sed 's/, $//')" "$SECONDS"
    [ ${#flaky[@]} = 0 ] || printf '== FLAKY, failed beside others and passed alone: mend it\n%s\n' "${flaky[@]}"
    [ ${#red[@]} = 0 ] || printf '== red: %s\n' "${red[@]}"
    .venv/bin/python tools/summary.py "${logs[@]}" && [ ${#red[@]} = 0 ]
}
