#!/bin/sh
# Runs a tool of the supply chain, tools/<name>.py, with what it needs in an environment of its own, .venv.supply:
# none of it belongs to the product. What is installed there has the hashes of tools/supply.lock.
#
# Where no index answers there is no such environment: then `audit` says that nothing was audited, and is no
# failure, so that nobody has to be online to merge; anything else is one.
set -eu
cd "$(dirname "$0")/.."
tool=$1
venv=.venv.supply
made_of="$(cksum <tools/supply.lock) ${PYTHON:-}"

make_it() {
    rm -rf "$venv"
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --python "${PYTHON:-python3}" "$venv" && uv pip install --quiet --python "$venv/bin/python" --require-hashes -r tools/supply.lock
    else
        "${PYTHON:-python3}" -m venv "$venv" && "$venv/bin/pip" install --quiet --retries 1 --timeout 15 --require-hashes -r tools/supply.lock
    fi && echo "$made_of" >"$venv/made-of"
}

if [ "$(cat "$venv/made-of" 2>/dev/null)" != "$made_of" ] && ! make_it >.venv.supply.log 2>&1; then
    tail -n 3 .venv.supply.log >&2
    echo "== $tool: its tools can't be installed (all output: .venv.supply.log)" >&2
    [ "$tool" = audit ] || exit 1
    echo "== NOT AUDITED: no index answers here"
    exit
fi
exec "$venv/bin/python" "tools/$tool.py"
