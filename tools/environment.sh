#!/bin/sh
# Makes .venv, or brings it up to date, and does nothing when it already is.
#
#     sh tools/environment.sh run      what the shipped fleet runs on
#     sh tools/environment.sh market   and the market station, with its PostgreSQL
#     sh tools/environment.sh dev      and what tests, lint and benches want; so without a word
#
# Each holds those above it: versions are the same in all lock files, so a larger one only adds, also beside a fleet
# that runs. .venv/made-of says what the environment was made of. It is written last, and taken away before anything
# is replaced, so one that was interrupted half-way has none, and is made anew. `uv` is used when it is there, venv and
# pip when not.
set -eu
cd "$(dirname "$0")/.."

wanted=${1:-dev}
case $wanted in
    run) enough="run market dev" ;;
    market) enough="market dev" ;;
    dev) enough=dev ;;
    *) echo "tools/environment.sh makes run, market or dev, not $wanted" >&2 && exit 2 ;;
esac

asked_for=${PYTHON:-}
export PIP_REQUIRE_VIRTUALENV=1 # whatever .venv/bin/python turns out to be: never into the system's own Python

lock_of() { [ "$1" = dev ] && echo requirements.lock || echo "requirements-$1.lock"; }
made_of() { echo "$1 $(pwd) $(cat pyproject.toml "$(lock_of "$1")" tools/environment.sh | cksum)"; }

say() { printf '%s\n' "$*" >&2; }
stop() { say "$@"; exit 1; }
works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo none; }

python_is_right() {
    works .venv/bin/python &&
        { [ -z "$asked_for" ] || [ "$(version "$asked_for")" = "$(version .venv/bin/python)" ]; }
}

is_made() { [ "$(cat .venv/made-of 2>/dev/null)" = "$(made_of "$1")" ]; }

up_to_date() {
    for layer in $enough; do
        is_made "$layer" && python_is_right && return
    done
    return 1
}

# Whether all that is there stays as it is, for a smaller layer is complete.
only_adds() {
    for layer in run market; do
        is_made "$layer" && python_is_right && return
    done
    return 1
}

# An environment that had more than is wanted now has as much again: what its owner tests with is not taken away.
keep_layer() {
    had=$(cat .venv/made-of 2>/dev/null) || return 0
    case "$wanted ${had%% *}" in
        run\ market) wanted=market ;;
        *\ run | *\ market) ;;
        *) wanted=dev ;;
    esac
}

# Two terminals may need it at once: the second waits for the first, for ten minutes. A link is made or not made, never
# half. After a power cut it may name a process of today that has nothing to do with it, so that one is named.
one_at_a_time() {
    waited=0
    until ln -s $$ .venv.making 2>/dev/null; do
        maker=$(readlink .venv.making) || continue
        kill -0 "$maker" 2>/dev/null || rm -f .venv.making
        [ "$waited" -ne 2 ] || say "Waiting for process $maker, which makes the Python environment in .venv ..."
        [ "$waited" -lt 600 ] || stop "Process $maker has not made it in ten minutes. If \`ps -p $maker\` shows something else,
an interruption left that behind:  rm .venv.making"
        waited=$((waited + 1))
        sleep 1
    done
    trap 'rm -f .venv.making' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

find_python() {
    if [ -n "$asked_for" ]; then
        python=$asked_for
        works "$python" || stop "PYTHON=$asked_for is not a Python of version 3.11 or newer that runs."
        return
    fi
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        works "$python" && return
    done
    stop "Python 3.11 or newer is needed; python3 here is: $(version python3). Install a newer one, or name it:
  make run PYTHON=/path/to/python3.13"
}

# A step's output is kept aside, and shown when the step fails.
step() { "$@" >>.venv.log 2>&1; }
must() {
    step "$@" && return
    tail -n 20 .venv.log >&2
    stop "Making the environment failed at: $*
  (all output: .venv.log)"
}

site_packages() { .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

with_uv() {
    command -v uv >/dev/null 2>&1 || return 1
    say "Making the Python environment in .venv with uv ..."
    if only_adds; then
        step uv pip install --python .venv/bin/python --require-hashes -r "$lock"
        return
    fi
    [ -x .venv/bin/python ] || step uv venv --python "${asked_for:->=3.11}" .venv || return 1
    step uv pip sync --python .venv/bin/python --require-hashes "$lock" || return 1
    step uv pip install --python .venv/bin/python --no-deps --no-build-isolation -e . || return 1
}

with_pip() {
    find_python
    say "Making the Python environment in .venv with $python ($(version "$python")) and pip$takes ..."
    [ -x .venv/bin/python ] || must "$python" -m venv .venv
    step .venv/bin/python -m pip --version || must .venv/bin/python -m ensurepip
    # the lock has all of them, so nothing is left to resolve; pip compiles one file after the other
    must .venv/bin/python -m pip install --no-deps --no-compile --require-hashes -r "$lock"
    step .venv/bin/python -m compileall -q -j 0 -x '[/\\]tests[/\\]' "$(site_packages)" || true # as pip: some can't be
    only_adds || must .venv/bin/python -m pip install --no-deps --no-build-isolation -e .
}

up_to_date && exit 0
one_at_a_time
up_to_date && exit 0
: >.venv.log
keep_layer
{ [ -e .venv/made-of ] && python_is_right; } || rm -rf .venv
lock=$(lock_of "$wanted")
takes=""
[ "$wanted" = run ] || takes=": a minute or two"
only_adds || rm -f .venv/made-of
with_uv || with_pip
made_of "$wanted" >.venv/made-of
rm -f .venv.log
