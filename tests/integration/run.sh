#!/bin/sh
# Runs the integration tests: run.sh SERVER [pytest arguments]
# Those with clients and tools of other people are left out unless `-m foreign` asks for them and nothing else.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
EBBINGHAUS_SERVER=$1
export EBBINGHAUS_SERVER
shift
exec "$here/python.sh" -m pytest -q -rs -p no:cacheprovider -m 'not foreign' "$here" "$@"
