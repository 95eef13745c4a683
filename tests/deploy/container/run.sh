#!/bin/sh
# Runs these tests: run.sh SERVER [pytest arguments]. SERVER is this machine's build, for what the files here must fit.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
EBBINGHAUS_SERVER=$1
export EBBINGHAUS_SERVER
shift
exec "$here/../../integration/python.sh" -m pytest -q -rs -p no:cacheprovider "$@"
