#!/usr/bin/env python3
"""What the server does under load: one table of what is asked of it and what was measured.

  load.py BIN_FOLDER --model PATH [--only NAME,...] [--seconds N] [--json FILE]
  load.py BIN_FOLDER --smoke

BIN_FOLDER holds ebbinghaus-server, ebbinghaus (whose `bench` makes the load, so that little processor time is taken from the
server; how much is said) and ebbinghaus-bench (the same work without gRPC). scripts/load.sh makes the model. --smoke takes a
tiny model and only shows that all of it works. Nothing asserts a time: exit code 1 means that something was not measured.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tests/support")]

HANG_SECONDS = 600  # a call that takes longer hangs
SAME_STEP_SECONDS = 0.02  # a quarter of a step of 16 sequences; calls reach the server within less


class Sizes:
    """Of the loads. Prompts and answers in tokens."""
    clients, prompt, answer, seconds = 16, 128, 128, 60
    long_prompt, arrivals = 2000, 3
    overload_clients, queue = 200, 64
    first_answer, second_turn = 100, 50
    queued_answer = 128
    server = ("--weights", "int8")


class SmokeSizes(Sizes):
    clients, prompt, answer, seconds = 4, 16, 64, 2
    long_prompt, arrivals = 300, 2
    overload_clients, queue = 30, 8
    first_answer, second_turn = 10, 5
    queued_answer = 1000  # so that B is there before A's are through
    server = ("--weights", "int8", "--threads", "1", "--kv-memory", "64MiB")


def p99(values):
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[max(1, -(-len(ordered) * 99 // 100)) - 1]


def first_token_seconds(calls):
    return [call["token_times"][0] - call["start"] for call in calls if call["token_times"]]


class Load:
    def __init__(self, harness, folder, binaries, model, sizes):
        self.harness, self.folder, self.sizes = harness, folder, sizes
        self.client = str(binaries / "ebbinghaus")
        self.engine_bench = str(binaries / "ebbinghaus-bench")
        self.model = model
        self.rows = []
        self.seed = 0
        self.has_prefix_cache = harness.knows("prefix-cache")

    def asked(self, what, asked, measured, met, note=""):
        self.rows.append({"what": what, "asked": asked, "measured": measured, "met": met, "note": note})
        print("  %-7s %-66s %-16s %-14s %s" % ("met" if met else "MISSED", what, asked, measured, note), flush=True)

    @contextlib.contextmanager
    def server(self, *flags, prefix_cache="off"):
        if self.has_prefix_cache:
            flags += ("--prefix-cache", prefix_cache)
        with self.harness.Server(self.model, *flags, defaults=self.sizes.server) as server:
            yield server

    def start(self, server, *flags, **sizes):
        """`ebbinghaus bench` with prompts that no other one has sent."""
        self.seed += 1
        trace = self.folder / ("trace-%d" % self.seed)
        settings = {"prompt-tokens": self.sizes.prompt, "max-tokens": self.sizes.answer, "temperature": 0, "seed": self.seed,
                    "timeout": "%ds" % HANG_SECONDS, "trace": trace, "target": server.grpc_address,
                    **{key.replace("_", "-"): value for key, value in sizes.items()}}
        command = [self.client, "bench", "--json", *flags]
        for key, value in settings.items():
            command += ["--" + key, str(value)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.harness.environment()), trace

    @staticmethod
    def finish(started):
        """(summary, calls)"""
        process, trace = started
        output = process.communicate(timeout=2 * HANG_SECONDS)[0]
        if process.returncode != 0:
            sys.exit("load: ebbinghaus bench failed with %d: %s" % (process.returncode, output))
        return json.loads(output), [json.loads(line) for line in trace.read_text().splitlines()]

    def bench(self, server, *flags, **sizes):
        return self.finish(self.start(server, *flags, **sizes))

    def engine_tokens_per_second(self):
        """The 16 clients' work by the engine alone: every prompt read, then all sequences decode together."""
        s = self.sizes
        command = [self.engine_bench, "--driver", "--model", str(self.model), "--weights", "int8", "--kv", "auto"]
        if "--threads" in s.server:
            command += ["--threads", s.server[s.server.index("--threads") + 1]]
        orders = ["prefill %d" % s.prompt] * 3 + ["open %d %d %d" % (s.clients, s.prompt, s.answer),
                                                  "step %d" % (s.answer - 1), "close"]
        done = subprocess.run(command, input="\n".join(orders * 2) + "\n", text=True, check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
        answers = [json.loads(line) for line in done.stdout.splitlines()[1:]]
        errors = [answer["error"] for answer in answers if "error" in answer]
        if errors:
            sys.exit("load: ebbinghaus-bench: " + errors[0])
        answers = answers[len(orders):]  # the first time warms up
        prompt = statistics.median(answer["seconds"] for answer in answers[:3])
        decode = sum(answers[4]["step_seconds"])
        return s.clients * s.answer / (s.clients * prompt + decode)

    # The scenarios.

    def throughput(self):
        s = self.sizes
        with self.server("--max-batch", str(s.clients)) as server:
            self.bench(server, clients=1, requests=1)
            one, _ = self.bench(server, clients=1, duration="%ds" % s.seconds)
            all_, _ = self.bench(server, clients=s.clients, duration="%ds" % s.seconds)
        engine = self.engine_tokens_per_second()
        rate = all_["tokens_per_second"]
        self.asked("%d clients' tokens/s over one client's" % s.clients, ">= 5", "%.2f" % (rate / one["tokens_per_second"]),
                   rate >= 5 * one["tokens_per_second"], "%.1f over %.1f tokens/s; load generator %.1f %% of a core" % (
                       rate, one["tokens_per_second"], 100 * all_["client_cpu_share"]))
        self.asked("the same over the engine's without gRPC", ">= 85 %", "%.0f %%" % (100 * rate / engine),
                   rate >= 0.85 * engine, "engine %.1f tokens/s" % engine)
        gaps = all_["inter_token_seconds"]
        self.asked("p99 gap between tokens over the median", "<= 3", "%.2f" % (gaps["p99"] / gaps["median"]),
                   gaps["p99"] <= 3 * gaps["median"], "p99 %.1f, median %.1f, longest %.1f ms" % tuple(
                       1e3 * gaps[key] for key in ("p99", "median", "max")))

    def arrival(self):
        """One more slot than clients, so that the long prompt need not wait for an answer's end."""
        s = self.sizes
        with self.server("--max-batch", str(s.clients + 1)) as server:
            long_prompt = {"clients": 1, "prompt_tokens": s.long_prompt, "max_tokens": 1, "requests": s.arrivals}
            _, alone = self.bench(server, **long_prompt)
            load = self.start(server, clients=s.clients, duration="%ds" % s.seconds)
            time.sleep(s.seconds / 3)
            _, arrived = self.bench(server, **long_prompt)
            _, calls = self.finish(load)
        windows = [(call["start"], call["token_times"][0]) for call in arrived]
        during, otherwise = [], []
        for call in calls:
            for before, after in zip(call["token_times"], call["token_times"][1:]):
                inside = any(before < end and after > begin for begin, end in windows)
                (during if inside else otherwise).append(after - before)
        if not during or not otherwise:
            sys.exit("load: no tokens beside the long prompts: take more --seconds")
        usual = statistics.median(otherwise)
        self.asked("p99 gap while a %d-token prompt arrives over the usual median" % s.long_prompt, "<= 3",
                   "%.2f" % (p99(during) / usual), p99(during) <= 3 * usual, "p99 %.1f, median %.1f ms; usual median %.1f" % (
                       1e3 * p99(during), 1e3 * statistics.median(during), 1e3 * usual))
        by_itself = statistics.median(first_token_seconds(alone))
        beside = statistics.median(first_token_seconds(arrived))
        self.asked("that prompt's time to first token over that of it alone", "<= 3", "%.2f" % (beside / by_itself),
                   beside <= 3 * by_itself, "%.2f over %.2f s" % (beside, by_itself))

    def overload(self):
        s = self.sizes
        with self.server("--max-batch", str(s.clients), "--max-queue", str(s.queue)) as server:
            usual, _ = self.bench(server, clients=s.clients, duration="%ds" % s.seconds)
            waves, resident = [], []
            for _ in range(2):
                waves.append(self.bench(server, clients=s.overload_clients, duration="%ds" % s.seconds)[0])
                time.sleep(1)  # what the last calls held is given back after their end
                resident.append(server.resources()["resident_bytes"])
        share = waves[0]["tokens_per_second"] / usual["tokens_per_second"]
        self.asked("%d clients' tokens/s of OK calls over %d clients'" % (s.overload_clients, s.clients), ">= 90 %",
                   "%.0f %%" % (100 * share), share >= 0.9, "%.1f over %.1f; load generator %.1f %% of a core" % (
                       waves[0]["tokens_per_second"], usual["tokens_per_second"], 100 * waves[0]["client_cpu_share"]))
        refusals = [wave["refusal_seconds"]["p99"] for wave in waves if wave["refusal_seconds"]]
        if not refusals:
            sys.exit("load: nothing was refused")
        self.asked("p99 time until a refusal", "<= 100 ms", "%.1f ms" % (1e3 * max(refusals)), max(refusals) <= 0.1)
        codes = sorted({code for wave in waves for code in wave["calls"]})
        self.asked("every call ends OK or RESOURCE_EXHAUSTED, none hangs", "no other", ", ".join(codes) if len(codes) != 2 else
                   "no other", set(codes) <= {"OK", "RESOURCE_EXHAUSTED"}, str([wave["calls"] for wave in waves]))
        self.asked("resident memory after the second wave over the first", "<= 1.02", "%.3f" % (resident[1] / resident[0]),
                   resident[1] <= 1.02 * resident[0], "%d and %d MB" % (resident[0] >> 20, resident[1] >> 20))

    def prefix(self):
        if not self.has_prefix_cache:
            self.asked("second turn's time to first token over the first's", "<= 15 %", "no cache", False,
                       "this server has no --prefix-cache")
            return
        s, pb = self.sizes, self.harness.stubs(self.folder)
        rng = random.Random(1)
        ratios, cached = [], []
        with self.server(prefix_cache="on") as server:
            stub = pb.Stub(server.channel)
            vocabulary = stub.GetModel(pb.GetModelRequest()).vocabulary_size

            def turn(ids, tokens):
                """(seconds until the first token, all ids, cached tokens)"""
                request = pb.GenerateRequest(max_new_tokens=tokens, ignore_eos=True)
                request.token_ids.ids.extend(ids)
                request.sampling.temperature = 0
                begin, seconds, answer = time.monotonic(), None, []
                for event in stub.Generate(request, timeout=HANG_SECONDS):
                    if event.WhichOneof("event") == "token":
                        seconds = seconds or time.monotonic() - begin
                        answer.append(event.token.id)
                    elif event.WhichOneof("event") == "started":
                        from_cache = event.started.cached_prompt_tokens
                return seconds, [*ids, *answer], from_cache

            new = lambda count: [rng.randrange(vocabulary) for _ in range(count)]
            for _ in range(3):
                first, ids, _ = turn(new(s.long_prompt), s.first_answer)
                second, _, from_cache = turn([*ids, *new(s.second_turn)], 1)
                ratios.append(second / first)
                cached.append(from_cache)
        self.asked("second turn's time to first token over the first's", "<= 15 %", "%.1f %%" % (
            100 * statistics.median(ratios)), statistics.median(ratios) <= 0.15, "%s of %d tokens from the cache" % (
                cached, s.long_prompt + s.first_answer + s.second_turn))

    def fairness(self):
        """All slots and the queue are client A's when B's only call arrives. Calls that A got a slot for in between count, but
        not those of the same step: answers of one length end together."""
        s = self.sizes
        with self.server("--max-batch", str(s.clients), "--max-queue", str(s.queue + 1)) as server:
            a = self.start(server, clients=s.clients + s.queue, connections=1, requests=1,
                           max_tokens=s.queued_answer)
            waiting = lambda: server.metrics()["ebbinghaus_requests_queued"]
            self.harness.wait_until(lambda: waiting() > s.queue / 2, "A's calls to wait")
            _, (b,) = self.bench(server, clients=1, requests=1)
            _, calls = self.finish(a)
        admitted = lambda call: call["start"] + call["queue_seconds"]
        before = [call for call in calls if b["start"] < admitted(call) < admitted(b) - SAME_STEP_SECONDS]
        self.asked("client B's call gets the next free slot although A has %d waiting" % s.queue, "0 before", "%d before" % len(
            before), not before, "B waited %.2f s" % b["queue_seconds"])


SCENARIOS = ("throughput", "arrival", "overload", "prefix", "fairness")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", type=pathlib.Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=pathlib.Path)
    what.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="of " + ", ".join(SCENARIOS))
    parser.add_argument("--seconds", type=int, help="of each load")
    parser.add_argument("--json", type=pathlib.Path, help="file for the rows")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if not set(names) <= set(SCENARIOS):
        parser.error("there are " + ", ".join(SCENARIOS))
    os.environ["EBBINGHAUS_SERVER"] = str(arguments.binaries / "ebbinghaus-server")
    import harness  # pylint: disable=import-outside-toplevel  # reads the environment
    import make_tiny_model  # pylint: disable=import-outside-toplevel

    sizes = SmokeSizes() if arguments.smoke else Sizes()
    sizes.seconds = arguments.seconds or sizes.seconds
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or make_tiny_model.make(pathlib.Path(folder) / "model")
        load = Load(harness, pathlib.Path(folder), arguments.binaries, model, sizes)
        if not load.has_prefix_cache:
            print("this server has no --prefix-cache: there is none")
        for name in names:
            print("%s:" % name, flush=True)
            getattr(load, name)()
    if arguments.json:
        arguments.json.write_text(json.dumps(load.rows, indent=1) + "\n")
    print("load: %d of %d met" % (sum(row["met"] for row in load.rows), len(load.rows)))


if __name__ == "__main__":
    main()
