#!/bin/sh
# Makes .venv, or brings it up to date, and does nothing when it already is.
#
# .venv/made-of says what the environment was made of. It is written last and taken away first, so one that
# was interrupted half-way has none, and is made anew. `uv` is used when it is there, venv and pip when not.
set -eu
cd "$(dirname "$0")/.."

asked_for=${PYTHON:-}
export PIP_REQUIRE_VIRTUALENV=1 # whatever .venv/bin/python turns out to be: never into the system's own Python
made_of="$(pwd) $(cat pyproject.toml requirements.lock tools/environment.sh | cksum)"

say() { printf '%s\n' "$*" >&2; }
stop() { say "$@"; exit 1; }
works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo none; }

python_is_right() {
    works .venv/bin/python &&
        { [ -z "$asked_for" ] || [ "$(version "$asked_for")" = "$(version .venv/bin/python)" ]; }
}

up_to_date() { [ "$(cat .venv/made-of 2>/dev/null)" = "$made_of" ] && python_is_right; }

# Two terminals may need it at once: the second waits for the first. A link is made or not made, never half.
one_at_a_time() {
    until ln -s $$ .venv.making 2>/dev/null; do
        maker=$(readlink .venv.making) || continue
        kill -0 "$maker" 2>/dev/null || rm -f .venv.making
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

with_uv() {
    command -v uv >/dev/null 2>&1 || return 1
    say "Making the Python environment in .venv with uv ..."
    [ -x .venv/bin/python ] || step uv venv --python "${asked_for:->=3.11}" .venv || return 1
    step uv pip sync --python .venv/bin/python --require-hashes requirements.lock || return 1
    step uv pip install --python .venv/bin/python --no-deps --no-build-isolation -e . || return 1
}

with_pip() {
    find_python
    say "Making the Python environment in .venv with $python ($(version "$python")) and pip: a minute or two ..."
    [ -x .venv/bin/python ] || must "$python" -m venv .venv
    step .venv/bin/python -m pip --version || must .venv/bin/python -m ensurepip
    must .venv/bin/python -m pip install --require-hashes -r requirements.lock
    must .venv/bin/python -m pip install --no-deps --no-build-isolation -e .
}

up_to_date && exit 0
one_at_a_time
up_to_date && exit 0
: >.venv.log
{ [ -e .venv/made-of ] && python_is_right; } || rm -rf .venv
rm -f .venv/made-of
with_uv || with_pip
printf '%s\n' "$made_of" >.venv/made-of
rm -f .venv.log
