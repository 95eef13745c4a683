#!/bin/sh
# Runs the tests of deploy/prometheus and deploy/grafana: run.sh SERVER FILE... [pytest arguments]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
EBBINGHAUS_SERVER=$1
export EBBINGHAUS_SERVER
shift
exec "$here/../../integration/python.sh" -m pytest -q -rs -p no:cacheprovider "$@"
