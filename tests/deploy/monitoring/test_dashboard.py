"""The dashboards' JSON: types by Grafana's own schema, layout, and what a reader needs on each panel."""
import copy
import json
import re
import subprocess

import pytest

import deployed

COLUMNS = 24
PANEL_TYPES = {"heatmap": "HeatmapPanel", "stat": "StatPanel", "table": "TablePanel", "timeseries": "TimeseriesPanel",
               "row": "RowPanel"}


def literals(dashboard):
    """A TypeScript file with the dashboard as literals: only of these does the compiler refuse fields that it does not know."""
    bare = {key: value for key, value in dashboard.items() if key != "panels"}
    lines = ["import type * as types from './types';", "export const dashboard: types.Dashboard = %s;" % json.dumps(bare)]
    for i, panel in enumerate(dashboard["panels"]):
        lines.append("export const panel%d: types.%s = %s;" % (i, PANEL_TYPES[panel["type"]], json.dumps(panel)))
    return "\n".join(lines) + "\n"


def errors(typescript, dashboards):
    """{name: what the compiler says of it}."""
    folder, compiler = typescript
    for old in folder.glob("check_*.ts"):
        old.unlink()
    for name, dashboard in dashboards.items():
        (folder / ("check_%s.ts" % name)).write_text(literals(dashboard))
    done = subprocess.run([*compiler, "-p", str(folder), "--pretty", "false"], capture_output=True, text=True, timeout=300,
                          check=False)
    found = {name: [] for name in dashboards}
    for line in done.stdout.splitlines():
        match = re.match(r"check_(\w+)\.ts\(\d+,\d+\): error (.*)", line[line.find("check_"):] if "check_" in line else line)
        if match:
            found[match[1]].append(match[2])
        else:
            assert line.startswith(" "), "not about a dashboard: " + line
    assert (done.returncode == 0) == (not any(found.values())), done.stdout + done.stderr
    return found


def test_every_field_is_of_grafanas_types(typescript):
    assert errors(typescript, deployed.dashboards()) == {name: [] for name in deployed.dashboards()}


def first(dashboard, kind):
    return next(panel for panel in dashboard["panels"] if panel["type"] == kind)


MISTAKES = {
    "unknown_dashboard_field": lambda d: d.update(refreshes="30s"),
    "wrong_dashboard_type": lambda d: d.update(schemaVersion="42"),
    "unknown_variable_field": lambda d: d["templating"]["list"][0].update(multiple=True),
    "wrong_variable_enum": lambda d: d["templating"]["list"][1].update(refresh=7),
    "unknown_panel_field": lambda d: first(d, "timeseries").update(descripton="x"),
    "unknown_row_field": lambda d: first(d, "row").update(collapse=True),
    "wrong_position": lambda d: first(d, "stat")["gridPos"].update(w="5"),
    "wrong_unit": lambda d: first(d, "timeseries")["fieldConfig"]["defaults"].update(unit=5),
    "unknown_style": lambda d: first(d, "timeseries")["fieldConfig"]["defaults"]["custom"].update(lineWith=2),
    "wrong_style": lambda d: first(d, "timeseries")["fieldConfig"]["defaults"]["custom"].update(drawStyle="lines"),
    "unknown_legend_field": lambda d: first(d, "timeseries")["options"]["legend"].update(show=True),
    "wrong_legend_enum": lambda d: first(d, "timeseries")["options"]["legend"].update(placement="top"),
    "unknown_stat_option": lambda d: first(d, "stat")["options"].update(sparkline=True),
    "missing_stat_option": lambda d: first(d, "stat")["options"].pop("reduceOptions"),
    "wrong_heatmap_option": lambda d: first(d, "heatmap")["options"]["color"].update(mode="schema"),
    "unknown_heatmap_option": lambda d: first(d, "heatmap")["options"].update(yAxes={}),
    "unknown_table_option": lambda d: first(d, "table")["options"].update(header=True),
    "unknown_query_field": lambda d: first(d, "timeseries")["targets"][0].update(legend="x"),
    "wrong_query_format": lambda d: first(d, "heatmap")["targets"][0].update(format="heat"),
    "unknown_override": lambda d: first(d, "timeseries")["fieldConfig"]["overrides"][0]["properties"][0].update(id="colour"),
    "wrong_override": lambda d: first(d, "timeseries")["fieldConfig"]["overrides"][0]["properties"][0]["value"].update(mode="fix"),
}


def test_the_type_check_finds_mistakes(typescript):
    broken = {}
    for name, mistake in MISTAKES.items():
        broken[name] = copy.deepcopy(deployed.dashboards()["ebbinghaus"])
        mistake(broken[name])
    said = errors(typescript, broken)
    assert [name for name in MISTAKES if not said[name]] == []
    assert all(len(lines) == 1 for lines in said.values()), said  # the mistake, and nothing else


def overlaps(panels):
    places = [(panel["title"], panel["gridPos"]) for panel in panels]
    return [(a, b) for i, (a, p) in enumerate(places) for b, q in places[:i]
            if p["x"] < q["x"] + q["w"] and q["x"] < p["x"] + p["w"] and p["y"] < q["y"] + q["h"] and q["y"] < p["y"] + p["h"]]


@pytest.mark.parametrize("name", deployed.dashboards())
def test_panels_neither_overlap_nor_leave_gaps(name):
    panels = deployed.dashboards()[name]["panels"]
    assert overlaps(panels) == []
    assert all(p["x"] >= 0 and p["w"] > 0 and p["h"] > 0 and p["x"] + p["w"] <= COLUMNS for p in
               (panel["gridPos"] for panel in panels))
    area = sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in panels)
    assert area == COLUMNS * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    # Grafana moves panels to the row above them in the list, whatever their position says.
    assert [panel["gridPos"]["y"] for panel in panels] == sorted(panel["gridPos"]["y"] for panel in panels)
    assert panels[0]["type"] == "row"
    assert all(panel["gridPos"]["w"] == COLUMNS and panel["panels"] == [] for panel in panels if panel["type"] == "row")


def test_an_overlap_would_be_found():
    panels = deployed.dashboards()["ebbinghaus"]["panels"]
    panels[2]["gridPos"]["x"] -= 1
    assert overlaps(panels) == [(panels[2]["title"], panels[1]["title"])]


@pytest.mark.parametrize("name", deployed.dashboards())
def test_ids_titles_and_letters_are_unique(name):
    dashboard = deployed.dashboards()[name]
    for key in ("id", "title"):
        values = [panel[key] for panel in dashboard["panels"]]
        assert len(set(values)) == len(values)
    for panel in dashboard["panels"]:
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(letters)) == len(letters), panel["title"]


def test_throughput_by_mode_comes_first():
    title, panel = deployed.panels()[0]
    assert "tokens per second, by mode" in title
    assert (panel["gridPos"]["x"], panel["gridPos"]["y"]) == (0, 1)


@pytest.mark.parametrize("panel", [pytest.param(panel, id=title) for title, panel in deployed.panels()])
def test_a_panel_tells_its_meaning_unit_and_source(panel):
    assert len(panel["description"]) > 20 and panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    if panel["type"] == "heatmap":
        assert panel["options"]["yAxis"]["unit"] and panel["targets"][0]["legendFormat"] == "{{le}}"
    elif panel["type"] != "table":
        assert panel["fieldConfig"]["defaults"]["unit"]
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert all(legends) and len(set(legends)) == len(legends)
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["id"] == "byFrameRefID":
            assert override["matcher"]["options"] in [target["refId"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", [pytest.param(expression, id=name) for name, expression, _ in deployed.queries()])
def test_a_query_asks_for_the_chosen_job_and_instances_only(expression):
    selectors = re.findall(r'\b(?:ebbinghaus_\w+|process_\w+|up)(\{[^}]*\})?', expression)
    assert selectors and all('job="$job"' in each and 'instance=~"$instance"' in each for each in selectors)
    # A fixed range would miss samples when the scrape interval is long, and details when the graph shows minutes.
    assert set(re.findall(r"\[(.*?)\]", expression)) <= {"$__rate_interval"}


@pytest.mark.parametrize("name", deployed.dashboards())
def test_variables_are_data_source_job_and_instance(name):
    source, job, instance = deployed.dashboards()[name]["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (job["name"], instance["name"]) == ("job", "instance")
    assert instance["multi"] and instance["includeAll"]


def test_grafana_is_given_the_data_source_and_the_dashboards():
    source, = deployed.load(deployed.GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"]
    provider, = deployed.load(deployed.GRAFANA / "provisioning/dashboards/ebbinghaus.yml")["providers"]
    assert provider["type"] == "file" and provider["options"]["path"] == "/etc/grafana/dashboards"
    assert "ebbinghaus" in deployed.dashboards()
