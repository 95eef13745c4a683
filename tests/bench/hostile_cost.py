#!/usr/bin/env python3
"""What four hostile clients of a kind cost four plain streams: gaps between tokens beside those that four plain clients leave,
the server's peak memory beside what the plain streams alone take, and how long health takes to be answered.

  hostile_cost.py BIN_FOLDER --model PATH [--kinds K,K] [--rounds 3] [--seconds 10] [server flags]

A round measures four plain clients and then each kind, on one server; the median of the rounds counts. Hostile clients run in
processes of their own and at the lowest priority, for they stand for other machines. Nothing asserts a time. Needs grpcio,
grpcio-tools and grpcio-health-checking, as the tests in tests/integration do (their virtual environment has them).
"""
import argparse
import asyncio
import contextlib
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tests/soak")]

CLIENTS = 4
STREAMS = 4
KINDS = {  # of hostile.py, by the row of faults that each is about
    "compressed": "F2", "too_large": "F3", "tiny_parts": "F3", "many_ids": "F4", "trickled_http": "F5", "dead_reader": "F6",
    "many_ranges": "F7", "heavy_texts": "F8", "trickling_reader": "F9", "many_scrapes": "F10", "costly_reports": "F12",
}
SILENT_LOG = "silent_log"  # F11: nobody reads the log while clients make it long


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else float("nan")


# One client, in a process of its own.

async def act(kind, folder, grpc_address, http_address, seed):
    import grpc
    import harness
    import hostile
    client = hostile.Hostile(harness.stubs(folder), grpc_address, http_address, random.Random(seed),
                             prompt_tokens=2000, new_tokens=400)
    async def plain():
        await client.read(client.request(generation_mode=seed % 3 + 1))
    perform = plain if kind == "plain" else getattr(client, kind)
    acts = 0
    print("begins", flush=True)
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await perform()
        acts += 1
        print(acts, flush=True)


@contextlib.contextmanager
def clients(kind, folder, server, count=CLIENTS):
    """Runs so many; a function that says how many acts they have done."""
    processes = [subprocess.Popen(
        ["nice", "-n", "19", sys.executable, __file__, "--act", kind, str(folder), server.grpc_address, server.http_address, str(i)],
        stdout=subprocess.PIPE, text=True) for i in range(count)]
    for process in processes:
        process.stdout.readline()
    acts = [0] * count

    def count_acts(i):
        for line in processes[i].stdout:
            acts[i] = int(line)
    threads = [threading.Thread(target=count_acts, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(acts)
    finally:
        for process in processes:
            process.kill()
        for process, thread in zip(processes, threads):
            process.wait()
            thread.join()


class Plain:
    """A stream of tokens, begun again when it is over; when each token came."""

    def __init__(self, grpc, pb, server, index):
        self.channel = grpc.insecure_channel(server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.call = self.channel.unary_stream("/ebbinghaus.v1.InferenceService/Generate",
                                              request_serializer=lambda m: m.SerializeToString(), response_deserializer=len)
        self.request = pb.GenerateRequest(text="Tell me story %d." % index, max_new_tokens=1500, ignore_eos=True)
        self.gaps, self.began, self.over, self.errors = [], 0, False, []
        self.error = grpc.RpcError
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.over:
            last = None
            try:
                self.running = self.call(self.request)
                for _ in self.running:
                    now = time.monotonic()
                    if last is not None:
                        self.gaps.append((last, (now - last) * 1000))
                    last = now
            except self.error as error:
                if not self.over:
                    self.errors.append(error.code().name)
                    time.sleep(0.1)

    def stop(self):
        self.over = True
        self.running.cancel()
        self.thread.join()
        self.channel.close()


class Health:
    """Asks both ports ten times a second, each on a connection of its own; the latencies."""

    def __init__(self, grpc, server):
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        self.http, self.rpc, self.over = [], [], threading.Event()
        request = health_pb2.HealthCheckRequest()
        url = "http://%s/healthz" % server.http_address

        def ask_http():
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert answer.status == 200

        def ask_rpc():
            with grpc.insecure_channel(server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
        self.threads = [threading.Thread(target=self.poll, args=pair) for pair in ((ask_http, self.http), (ask_rpc, self.rpc))]
        for thread in self.threads:
            thread.start()

    def poll(self, ask, latencies):
        while not self.over.wait(0.1):
            begin = time.monotonic()
            try:
                ask()
                latencies.append((time.monotonic() - begin) * 1000)
            except Exception as error:  # counts as never
                print("health: %s" % str(error)[:200], file=sys.stderr)
                latencies.append(float("inf"))

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def peak(server):
    status = pathlib.Path("/proc/%d/status" % server.process.pid).read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024


def forget_peak(server):
    pathlib.Path("/proc/%d/clear_refs" % server.process.pid).write_text("5")


class Window:
    """What one stretch of time showed."""

    def __init__(self, grpc, server, streams, seconds, acts=lambda: 0):
        for stream in streams:
            stream.gaps.clear()
            stream.errors.clear()
        health = Health(grpc, server)
        forget_peak(server)
        before = acts()
        time.sleep(seconds)
        self.acts = acts() - before
        self.peak = peak(server)
        health.stop()
        gaps = [gap for stream in streams for _, gap in stream.gaps]
        self.p50, self.p99, self.tokens = quantile(gaps, 0.5), quantile(gaps, 0.99), len(gaps)
        self.http, self.rpc = max(health.http, default=float("inf")), max(health.rpc, default=float("inf"))
        self.errors = [error for stream in streams for error in stream.errors]


def measure(grpc, harness, pb, folder, arguments, flags):
    kinds = arguments.kinds.split(",") if arguments.kinds else [*KINDS, SILENT_LOG]
    rounds = {kind: [] for kind in ["alone", "plain", *kinds]}
    for number in range(arguments.rounds):
        for kind in rounds:
            log = None
            if kind == SILENT_LOG:
                read_end, log = os.pipe()
            with harness.Server(arguments.model, "--max-batch", "16", "--drain-timeout", "0", "--slow-reader-timeout", "2s",
                                *flags, defaults=(), log=log) as server:
                streams = [Plain(grpc, pb, server, i) for i in range(STREAMS)]
                harness.wait_until(lambda: all(len(s.gaps) > 20 for s in streams), "the streams to run", 60)
                if kind == "alone":
                    window = Window(grpc, server, streams, arguments.seconds)
                else:
                    # A log grows by calls: many that are refused.
                    with clients("extreme_values" if kind == SILENT_LOG else kind, folder, server) as acts:
                        time.sleep(2)
                        window = Window(grpc, server, streams, arguments.seconds, acts)
                rounds[kind].append(window)
                for stream in streams:
                    stream.stop()
            if log:
                os.close(log)
                os.close(read_end)
            print("round %d, %-17s p50 %6.1f ms, p99 %7.1f, %5d tokens, peak %6.0f MiB, health %4.0f / %4.0f ms, %d acts %s" % (
                number, kind, window.p50, window.p99, window.tokens, window.peak / 2**20, window.http, window.rpc, window.acts,
                " ".join(window.errors)), flush=True)

    def median(kind, name):
        return statistics.median(getattr(window, name) for window in rounds[kind])
    base_peak, base_gap = median("alone", "peak"), median("plain", "p99")
    print("\n%-17s %4s %12s %16s %22s" % ("kind", "row", "p99 / plain", "peak - 1.1 alone", "health, slowest of all"))
    for kind in ["alone", "plain", *kinds]:
        print("%-17s %4s %12.2f %12.0f MiB %12.0f / %4.0f ms" % (
            kind, KINDS.get(kind, "F11" if kind == SILENT_LOG else ""), median(kind, "p99") / base_gap,
            (median(kind, "peak") - 1.1 * base_peak) / 2**20,
            max(window.http for window in rounds[kind]), max(window.rpc for window in rounds[kind])))


def main():
    if sys.argv[1:2] == ["--act"]:
        kind, folder, grpc_address, http_address, seed = sys.argv[2:]
        with contextlib.suppress(BrokenPipeError):
            asyncio.run(act(kind, folder, grpc_address, http_address, int(seed)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_folder")
    parser.add_argument("--model", required=True)
    parser.add_argument("--kinds", help="of %s, %s" % (", ".join(KINDS), SILENT_LOG))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    arguments, flags = parser.parse_known_args()
    import harness
    harness.PROGRAM = str(pathlib.Path(arguments.bin_folder) / "ebbinghaus-server")
    import grpc
    with tempfile.TemporaryDirectory() as folder:
        measure(grpc, harness, harness.stubs(pathlib.Path(folder)), folder, arguments, flags)


if __name__ == "__main__":
    main()
