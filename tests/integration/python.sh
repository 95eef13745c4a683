#!/bin/sh
# Runs a Python that has the packages of requirements.txt: python.sh [Python's arguments]
# Makes an environment with these pinned packages below the user's cache folder. Without it the tests are skipped
# (exit 77, which ctest knows), with what is missing; where CI=true that is a failure.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

missing() {
  echo "skipped: $1" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 77
}

command -v python3 >/dev/null || missing "python3 is missing"
sum=$(cksum < "$here/requirements.txt" | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ebbinghaus
venv=$cache/integration-$sum
mkdir -p "$cache"
exec 9> "$venv.lock"
flock 9  # several test programs may start at once
if [ ! -e "$venv/complete" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv" || missing "python3-venv is missing"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" ||
    missing "Python packages of tests/integration/requirements.txt could not be installed"
  touch "$venv/complete"
fi
exec 9>&-
exec "$venv/bin/python" "$@"
