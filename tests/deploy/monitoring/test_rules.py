"""Prometheus's own tool reads the configuration and the rules, and runs their tests."""
import copy
import re
import subprocess

import pytest

import deployed

ANCHORS = re.findall(r"^#+ (.+)$", (deployed.ROOT / "docs/operations.md").read_text(), re.MULTILINE)


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_configuration_is_valid(promtool):
    code, said = run(promtool, "check", "config", deployed.PROMETHEUS / "prometheus.yml")
    assert code == 0 and "%d rule files found" % len(deployed.RULE_FILES) in said, said


def test_the_rules_are_valid(promtool):
    code, said = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *deployed.RULE_FILES)
    assert code == 0, said


def test_the_rules_do_what_their_tests_say(promtool):
    code, said = run(promtool, "test", "rules", *deployed.TEST_FILES)
    assert code == 0, said


@pytest.mark.parametrize("broken", ["vector(0) > 1", 'label_replace(vector(1), "instance", "x", "", "")'])
def test_alerts_that_never_or_always_fire_fail_their_tests(promtool, broken, tmp_path):
    """The tests are not empty."""
    (tmp_path / "tests").symlink_to(deployed.PROMETHEUS / "tests")
    (tmp_path / "rules").mkdir()
    for path in deployed.RULE_FILES:
        rules = copy.deepcopy(deployed.load(path))
        for rule in (rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule):
            rule["expr"] = broken
        (tmp_path / "rules" / path.name).write_text(deployed.dump(rules))
    code, said = run(promtool, "test", "rules", *sorted(tmp_path.glob("tests/*.test.yml")))
    assert code != 0
    assert set(re.findall(r"alertname: (\w+)", said)) == set(deployed.alerts()), said


def alert_tests():
    """(alert, whether it is to fire) of every check."""
    return [(check["alertname"], bool(check["exp_alerts"])) for path in deployed.TEST_FILES
            for test in deployed.load(path)["tests"] for check in test.get("alert_rule_test", [])]


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    tested = set(alert_tests())
    assert tested == {(alert, fires) for alert in deployed.alerts() for fires in (True, False)}


def test_every_recording_rule_has_a_test():
    asked = " ".join(check["expr"] for path in deployed.TEST_FILES for test in deployed.load(path)["tests"]
                     for check in test.get("promql_expr_test", []))
    assert [name for name in deployed.recordings() if not re.search(re.escape(name) + r"\b", asked)] == []


def test_rules_read_only_recordings_that_exist():
    known = set(deployed.recordings())
    for rule in deployed.rules():
        assert set(re.findall(r"\b\w+:\w+:\w+\b", rule["expr"])) <= known, rule


@pytest.mark.parametrize("alert", deployed.alerts())
def test_every_alert_says_what_is_wrong_and_where_to_read_on(alert):
    rule = deployed.alerts()[alert]
    assert alert.startswith("Ebbinghaus")
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == "docs/operations.md#" + alert.lower()
    assert alert in ANCHORS, "docs/operations.md has no section of that name"


def test_the_docs_name_no_alert_that_is_gone():
    assert {anchor for anchor in ANCHORS if re.fullmatch(r"Ebbinghaus[A-Z]\w+", anchor)} == set(deployed.alerts())


def test_grafana_knows_the_scrape_interval():
    source, = deployed.load(deployed.GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert source["jsonData"]["timeInterval"] == deployed.load(deployed.PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]


def test_the_job_has_the_name_that_rules_ask_for():
    job, = deployed.load(deployed.PROMETHEUS / "prometheus.yml")["scrape_configs"]
    asked = {name for rule in deployed.rules() for name in re.findall(r'job="([^"]*)"', rule["expr"])}
    assert asked == {job["job_name"]}
    files, = job["file_sd_configs"]
    for name in files["files"]:
        assert (deployed.PROMETHEUS / name).is_file()
