#!/usr/bin/env bash
# Writes prometheusrule.yaml, the rules of deploy/prometheus/rules as the Prometheus operator takes them: kustomize reads no
# files outside its folder. A test tells when it is out of date.
#
#   prometheusrule.sh [FOLDER]     where recording.yml and alerts.yml are; default: deploy/prometheus/rules
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rules=${1:-$here/../../../prometheus/rules}

{
  cat <<'YAML'
# Made by prometheusrule.sh from deploy/prometheus/rules: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ebbinghaus
  labels: # as for the ServiceMonitor
    app.kubernetes.io/name: ebbinghaus
spec:
  groups:
YAML
  for file in "$rules/recording.yml" "$rules/alerts.yml"; do
    printf '    # %s\n' "$(basename "$file")"
    # All below `groups:`, two columns further in; a line that is empty stays so.
    sed '1,/^groups:$/d; s/^./  &/' "$file"
  done
} >"$here/prometheusrule.yaml.new"
mv "$here/prometheusrule.yaml.new" "$here/prometheusrule.yaml"
