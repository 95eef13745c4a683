#!/bin/sh
# Runs tests of this folder: run.sh SERVER FILE... [pytest arguments]. SERVER is this machine's build of the program.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
EBBINGHAUS_SERVER=$1
export EBBINGHAUS_SERVER
shift
exec "$here/../integration/python.sh" -m pytest -q -rs -p no:cacheprovider "$@"
