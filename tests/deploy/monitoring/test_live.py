"""The real Prometheus reads a real server under a small load: every metric, rule and dashboard query."""
import math
import re
import time

import pytest

import deployed
import harness
from live import MODES, Load, Prometheus, generation_mode

LOADED_SECONDS = 120  # for all series to have moved; takes about 15

MODE = {"mode"}
# name: (type, labels beside job and instance)
METRICS = {
    "tokens_total": ("counter", {"mode", "kind"}),
    "tokens_per_second": ("gauge", MODE),
    "decode_seconds_total": ("counter", MODE),
    "prefill_seconds_total": ("counter", MODE),
    "requests_total": ("counter", {"mode", "code"}),
    "requests_finished_total": ("counter", {"mode", "reason"}),
    "requests_rejected_total": ("counter", {"reason"}),
    "requests_running": ("gauge", MODE),
    "requests_queued": ("gauge", set()),
    "queued_prompt_tokens": ("gauge", set()),
    "time_to_first_token_seconds": ("histogram", MODE),
    "inter_token_latency_seconds": ("histogram", MODE),
    "request_duration_seconds": ("histogram", MODE),
    "queue_seconds": ("histogram", set()),
    "batch_size": ("histogram", set()),
    "kv_used_bytes": ("gauge", MODE),
    "kv_cached_bytes": ("gauge", set()),
    "kv_capacity_bytes": ("gauge", set()),
    "live_tokens": ("gauge", MODE),
    "forgotten_tokens_total": ("counter", MODE),
    "token_age_at_forgetting_tokens": ("histogram", set()),
    "retention_ratio": ("histogram", MODE),
    "cancel_latency_seconds": ("histogram", set()),
    "stream_backpressure_total": ("counter", {"action"}),
    "scheduler_last_step_timestamp_seconds": ("gauge", set()),
    "build_info": ("gauge", {"version"}),
    "model_info": ("gauge", {"name", "architecture", "weights", "kv", "context_tokens", "layers"}),
}
METRICS = {"ebbinghaus_" + name: facts for name, facts in METRICS.items()}
METRICS.update({"process_" + name: ("gauge", set()) for name in (
    "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds", "threads", "start_time_seconds")})
METRICS["process_cpu_seconds_total"] = ("counter", set())

VALUES = {
    "mode": set(MODES),
    "kind": {"prompt", "prompt_cached", "generated"},
    "action": {"paused", "cancelled"},
}
# What the load must have moved, so that the tests below look at more than zeros.
MOVED = """ebbinghaus_tokens_total ebbinghaus_requests_rejected_total{reason="queue_full"}
    ebbinghaus_requests_rejected_total{reason="invalid_argument"} ebbinghaus_requests_rejected_total{reason="duplicate_id"}
    ebbinghaus_requests_total{code="CANCELLED"} ebbinghaus_requests_total{code="DEADLINE_EXCEEDED"}
    ebbinghaus_requests_total{code="OK"} ebbinghaus_stream_backpressure_total ebbinghaus_kv_cached_bytes
    ebbinghaus_forgotten_tokens_total{mode="sparse_attention"} ebbinghaus_retention_ratio_count{mode=~"s.*"}
    ebbinghaus_cancel_latency_seconds_count ebbinghaus_token_age_at_forgetting_tokens_count
    ebbinghaus_requests_finished_total{reason="length"}""".split()


@pytest.fixture(scope="module")
def scraped(prometheus, pb, model, tmp_path_factory):
    """Prometheus, once the load has moved all that it is to move; the load goes on."""
    with harness.Server(model, "--max-batch", "6", "--max-queue", "12", "--slow-reader-timeout", "500ms") as server:
        running = Prometheus(prometheus, tmp_path_factory.mktemp("prometheus"), server.http_address)
        try:
            with Load(pb, server) as load:
                def moved():
                    assert not load.failures
                    return not unmoved(running)
                try:
                    harness.wait_until(moved, "the load to move everything", LOADED_SECONDS)
                except AssertionError as error:
                    raise AssertionError("%s; not yet: %s" % (error, unmoved(running))) from error
                yield running
            assert not load.failures
        finally:
            running.stop()


def unmoved(prometheus):
    """The selectors of MOVED with no series, or with one that did not move."""
    return [selector for selector in MOVED if not prometheus.now(selector)
            or any(value == 0 for _, value in prometheus.now(selector))]


def names_of(name):
    """The names of a metric's series."""
    return [name + end for end in ("_bucket", "_sum", "_count")] if METRICS[name][0] == "histogram" else [name]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_the_contract_is_there_with_its_labels(scraped, name):
    kind, labels = METRICS[name]
    for series in names_of(name):
        found = [metric for metric, _ in scraped.now(series)]
        assert found
        expected = {"__name__", "job", "instance"} | labels | ({"le"} if series.endswith("_bucket") else set())
        assert all(set(metric) == expected for metric in found)
        assert {metric["job"] for metric in found} == {"ebbinghaus"}
        for label in labels & set(VALUES):
            assert {metric[label] for metric in found} == VALUES[label]
    told = scraped.ask("targets/metadata", metric=name)
    assert {each["type"] for each in told} == {kind} and all(each["help"].endswith(".") or each["help"] for each in told)


def test_there_is_no_metric_beside_the_contract(scraped):
    known = {series for name in METRICS for series in names_of(name)}
    found = {metric["__name__"] for metric, _ in scraped.now('{job="ebbinghaus"}')}
    assert {name for name in found if not re.match(r"up$|scrape_|ALERTS|\w+:", name)} == known
    count, = scraped.now('scrape_samples_scraped{job="ebbinghaus"}')
    assert count[1] < 1000


def read(expressions):
    return {name for expression in expressions for name in deployed.metrics_in(expression)}


def test_rules_and_dashboards_read_only_metrics_of_the_contract():
    known = {series for name in METRICS for series in names_of(name)}
    assert read(rule["expr"] for rule in deployed.rules()) <= known
    assert read(expression for _, expression, _ in deployed.queries()) <= known


def test_the_dashboards_show_every_metric_but_these():
    shown = read(expression for _, expression, _ in deployed.queries())
    assert {name for name in METRICS if not shown & set(names_of(name))} == {
        "ebbinghaus_build_info",  # in the variables
        "process_virtual_memory_bytes", "process_open_fds", "process_max_fds", "process_threads"}


def test_every_rule_is_evaluated_without_error(scraped):
    def rules():
        found = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else None
    found = harness.wait_until(rules, "the rules to be evaluated")
    assert {rule["name"] for rule in found} == set(deployed.alerts()) | set(deployed.recordings())
    assert [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok" or rule.get("lastError")] == []
    assert "EbbinghausDown" not in {rule["name"] for rule in found if rule.get("state") == "firing"}


@pytest.mark.parametrize("name", deployed.recordings())
def test_a_recording_rule_gives_data(scraped, name):
    """Numbers, for each mode where the rule keeps modes."""
    def values():
        found = [(labels, value) for labels, value in scraped.now(name) if not math.isnan(value)]
        modes = {labels["mode"] for labels, _ in found if "mode" in labels}
        return found if found and ("mode" not in found[0][0] or modes == set(MODES)) else None
    found = harness.wait_until(values, "data of " + name)
    assert all(value >= 0 for _, value in found)


def substituted(expression):
    """As Grafana asks with all instances chosen; it takes at least four scrape intervals for a rate."""
    return expression.replace("$job", "ebbinghaus").replace("$instance", ".+").replace("$__rate_interval", "5s")


@pytest.mark.parametrize("expression,target", [pytest.param(e, t, id=name) for name, e, t in deployed.queries()])
def test_a_dashboard_query_gives_data(scraped, expression, target):
    """Every line has numbers and what its legend names; with a legend of modes there is one line for each."""
    legend = re.findall(r"{{(\w+)}}", target["legendFormat"])

    def lines():
        found = [(labels, values) for labels, values in scraped.drawn(substituted(expression)) if values]
        modes = {labels.get("mode") for labels, _ in found}
        return found if found and ("mode" not in legend or modes == set(MODES)) else None
    found = harness.wait_until(lines, "data")
    assert all(set(legend) <= set(labels) for labels, _ in found)
    if not legend:
        assert target["format"] == "table" if "format" in target else len(found) == 1
    if target.get("format") == "heatmap":
        assert max(value for _, values in found for value in values) > 0
    assert all(value >= 0 for _, values in found for value in values)
    if target.get("instant"):
        assert scraped.now(substituted(expression))


@pytest.mark.parametrize("name", ["job", "instance"])
def test_a_dashboard_variable_gets_its_values(scraped, name):
    for dashboard in deployed.dashboards().values():
        query, = [each["query"]["query"] for each in dashboard["templating"]["list"] if each["name"] == name]
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", substituted(query)).groups()
        assert len(scraped.ask("label/%s/values" % label, **{"match[]": selector})) == 1


def series(name, mode):
    return '%s{%smode="%s"}' % (name, 'kind="generated",' if name.endswith("tokens_total") else "", mode)


def test_tokens_per_second_is_the_rate_of_the_counter_and_0_when_idle(pb, model):
    """The gauge beside what the counter gained in the same ten seconds, looked up in samples on both sides of their beginning."""
    window, seconds = 10, 13
    with harness.Server(model) as server:
        stub = pb.Stub(server.channel)
        assert all(server.metrics()[series("ebbinghaus_tokens_per_second", mode)] == 0 for mode in MODES)
        samples = []  # (time, the metrics)
        begun = time.monotonic()
        calls = {}
        while time.monotonic() - begun < seconds:
            for i, mode in enumerate(MODES):  # all the time, each at a rate of its own
                if mode not in calls or calls[mode].done():
                    calls[mode] = stub.Complete.future(pb.GenerateRequest(
                        text="x", max_new_tokens=20 * (i + 1), ignore_eos=True, generation_mode=generation_mode(pb, mode)))
            before = time.monotonic()
            metrics = server.metrics()
            samples.append(((before + time.monotonic()) / 2, metrics))
        for call in calls.values():
            call.result()

        def counter(mode, at):
            """Between the samples on both sides."""
            after = next(i for i, (when, _) in enumerate(samples) if when >= at)
            (t0, first), (t1, last) = samples[after - 1], samples[after]
            a, b = (each[series("ebbinghaus_tokens_total", mode)] for each in (first, last))
            return a + (b - a) * (at - t0) / (t1 - t0)
        compared = 0
        for when, metrics in samples:
            if when - window <= samples[0][0]:
                continue
            for mode in MODES:
                rate = (metrics[series("ebbinghaus_tokens_total", mode)] - counter(mode, when - window)) / window
                assert rate > 0
                assert metrics[series("ebbinghaus_tokens_per_second", mode)] == pytest.approx(rate, rel=0.05), mode
                compared += 1
        assert compared > 30

        harness.wait_until(lambda: all(server.metrics()[series("ebbinghaus_tokens_per_second", mode)] == 0 for mode in MODES),
                           "the average to fall to 0", window + harness.STEP_SECONDS)


def test_tokens_by_decode_seconds_is_what_one_stream_gets_in_a_mixed_batch(pb, model):
    """Several streams of each mode at once; what the clients are told of their speed beside the quotient of the counters.

    With the reference engine, whose steps take about as long as a real model's: a step of the packed one over a tiny model is
    so short (0.2 ms) that the work between two steps, which is no step time, is several percent of it."""
    tokens = {"baseline": (400, 250), "soft_delete": (300,), "sparse_attention": (450, 200)}
    with harness.Server(model, "--engine", "reference") as server:
        stub = pb.Stub(server.channel)
        calls = {mode: [] for mode in MODES}
        for mode in MODES:
            for count in tokens[mode]:
                message = pb.GenerateRequest(text="go on", max_new_tokens=count, ignore_eos=True,
                                             generation_mode=generation_mode(pb, mode))
                if mode == "sparse_attention":
                    message.memory.max_live_tokens = 100
                calls[mode].append(stub.Complete.future(message))  # not a stream: nobody pauses it
        usages = {mode: [call.result().finished.usage for call in calls[mode]] for mode in MODES}
        metrics = server.metrics()
        batch = metrics["ebbinghaus_batch_size_sum"] / metrics["ebbinghaus_batch_size_count"]
        assert batch > 2, "the streams did not run together"
        for mode in MODES:
            told = (sum(usage.generated_tokens - 1 for usage in usages[mode])
                    / sum(usage.decode_duration.ToTimedelta().total_seconds() for usage in usages[mode]))
            slowest, fastest = (choose(usage.tokens_per_second for usage in usages[mode]) for choose in (min, max))
            assert slowest <= told * 1.001 and told <= fastest * 1.001
            decode = metrics[series("ebbinghaus_decode_seconds_total", mode)]
            assert metrics[series("ebbinghaus_tokens_total", mode)] == sum(tokens[mode])
            assert metrics[series("ebbinghaus_tokens_total", mode)] / decode == pytest.approx(told, rel=0.05), mode
            # As the dashboard does it, without the first tokens: right for short answers, too.
            gaps = metrics[series("ebbinghaus_inter_token_latency_seconds_count", mode)]
            assert gaps == sum(tokens[mode]) - len(tokens[mode])
            assert gaps / decode == pytest.approx(told, rel=0.05), mode
