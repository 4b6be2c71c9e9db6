#!/bin/sh
# Make a virtual environment with the pinned dependencies and Atalaia itself: venv.sh PYTHON FOLDER
set -eu
python=$1 folder=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Atalaia needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Try: make setup PYTHON=python3.12" >&2
    exit 1
}
# Debian's python3 comes without ensurepip, which venv needs.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv (Debian's python3 has no pip)"
        apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy python3-venv >/dev/null
    else
        echo "Python's venv module is incomplete here. As root: apt-get install python3-venv" >&2
        exit 1
    fi
fi
echo "preparing $folder (once; about half a minute)"
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
