"""What lies in deploy/prometheus and deploy/grafana, read for the tests."""
import functools
import json
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
RULE_FILES = sorted(PROMETHEUS.glob("rules/*.yml"))
TEST_FILES = sorted(PROMETHEUS.glob("tests/*.test.yml"))
DASHBOARDS = sorted(GRAFANA.glob("dashboards/*.json"))


@functools.cache
def load(path):
    return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def dump(value):
    return json.dumps(value)  # is YAML, too


def rules():
    return [rule for path in RULE_FILES for group in load(path)["groups"] for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recordings():
    return {rule["record"]: rule for rule in rules() if "record" in rule}


def dashboards():
    return {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}


def panels():
    """(title, panel) of everything that is drawn."""
    return [(panel["title"], panel) for dashboard in dashboards().values() for panel in dashboard["panels"]
            if panel["type"] != "row"]


def queries():
    """(title and letter, expression, target) of everything that a dashboard asks."""
    return [("%s %s" % (title, target["refId"]), target["expr"], target) for title, panel in panels()
            for target in panel["targets"]]


def metrics_in(expression):
    """The names of the metrics that an expression reads; those of recording rules have colons."""
    return set(re.findall(r"(?<![:\w])(?:ebbinghaus|process)_\w+(?![:\w])", expression))
