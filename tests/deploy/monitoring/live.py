"""A running Prometheus, and a load on a server that moves every metric."""
import contextlib
import json
import pathlib
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import grpc

import deployed
import harness

INTERVAL = "1s"  # of scrapes and of rules
LISTENING = re.compile(r'msg="Listening on"[^\n]* address=(\S+:\d+)')


class Prometheus:
    """Debian's Prometheus with the configuration of deploy/prometheus, but for the intervals and the target."""

    def __init__(self, program, folder, target):
        configuration = dict(deployed.load(deployed.PROMETHEUS / "prometheus.yml"))
        configuration["global"] = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
        self.folder = pathlib.Path(folder)
        (self.folder / "prometheus.yml").write_text(deployed.dump(configuration))
        (self.folder / "targets.yml").write_text(deployed.dump([{"targets": [target]}]))
        (self.folder / "rules").symlink_to(deployed.PROMETHEUS / "rules")
        self.log = self.folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [program, "--config.file", str(self.folder / "prometheus.yml"), "--storage.tsdb.path",
                 str(self.folder / "data"), "--web.listen-address", "127.0.0.1:0"], stdout=log, stderr=log)

        def address():
            assert self.process.poll() is None, self.log.read_text()
            return LISTENING.search(self.log.read_text())
        self.address = harness.wait_until(address, "Prometheus to listen", harness.START_SECONDS)[1]
        harness.wait_until(self.ready, "Prometheus to be ready", harness.START_SECONDS)

    def ready(self):
        with contextlib.suppress(OSError):
            with urllib.request.urlopen("http://%s/-/ready" % self.address, timeout=harness.STEP_SECONDS) as answer:
                return answer.status == 200
        return False

    def ask(self, path, **parameters):
        url = "http://%s/api/v1/%s?%s" % (self.address, path, urllib.parse.urlencode(parameters, doseq=True))
        try:
            with urllib.request.urlopen(url, timeout=harness.STEP_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError("%s: %s" % (parameters, error.read().decode())) from error

    def now(self, expression):
        """[(labels, value)] of what the expression is now."""
        return [(each["metric"], float(each["value"][1])) for each in self.ask("query", query=expression)["result"]]

    def drawn(self, expression, seconds=60):
        """[(labels, values)] of a graph's lines over the last seconds, without what is not a number."""
        end = time.time()
        lines = self.ask("query_range", query=expression, start=end - seconds, end=end, step=1)["result"]
        return [(line["metric"], [float(value) for _, value in line["values"] if value != "NaN"]) for line in lines]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(harness.STEP_SECONDS)
        finally:
            self.process.kill()


MODES = ("baseline", "soft_delete", "sparse_attention")


def generation_mode(pb, mode):
    return getattr(pb, "GENERATION_MODE_" + mode.upper())


class Load:
    """Clients that do all that a metric counts, over and over until the end of the context, in every mode. Each loop rests a
    little: the machine is shared."""

    REST_SECONDS = 0.05
    MOST_SECONDS = 300  # by itself, whatever happens

    def __init__(self, pb, server):
        self.pb, self.server = pb, server
        self.over = threading.Event()
        self.ends = time.monotonic() + self.MOST_SECONDS
        self.failures = []
        self.threads = [threading.Thread(target=self.repeat, args=(what, mode)) for mode in MODES
                        for what in (self.answer, self.cancel, self.too_late)]
        self.threads += [threading.Thread(target=self.repeat, args=(what, "baseline"))
                         for what in (self.broken, self.same_id, self.crowd, self.sleeper)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def repeat(self, what, mode):
        # A connection of its own, so that a stream that nobody reads stops nobody else's.
        with grpc.insecure_channel(self.server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = self.pb.Stub(channel)
            while not self.over.is_set() and time.monotonic() < self.ends:
                try:
                    what(stub, mode)
                except Exception as error:  # pylint: disable=broad-except
                    self.failures.append((what.__name__, mode, repr(error)))
                    return
                self.over.wait(self.REST_SECONDS)

    def request(self, mode, tokens, **fields):
        message = self.pb.GenerateRequest(text="It was the best of times, it was the worst of times. " * 8,
                                          max_new_tokens=tokens, ignore_eos=True,
                                          generation_mode=generation_mode(self.pb, mode), **fields)
        if mode == "sparse_attention":
            message.memory.max_live_tokens = 96
        return message

    def refused(self, codes, call):
        """Makes the call, which may also find the queue full."""
        try:
            call()
        except grpc.RpcError as error:
            assert error.code() in (*codes, grpc.StatusCode.RESOURCE_EXHAUSTED), error

    def answer(self, stub, mode):
        self.refused([], lambda: stub.Complete(self.request(mode, 150)))

    def cancel(self, stub, mode):
        def call():
            stream = stub.Generate(self.request(mode, 4000))
            for event in stream:
                if event.HasField("token"):
                    break
            stream.cancel()
        self.refused([grpc.StatusCode.CANCELLED], call)

    def too_late(self, stub, mode):
        self.refused([grpc.StatusCode.DEADLINE_EXCEEDED], lambda: stub.Complete(self.request(mode, 6000), timeout=0.05))

    def broken(self, stub, _):
        self.refused([grpc.StatusCode.INVALID_ARGUMENT], lambda: stub.Complete(self.pb.GenerateRequest()))

    def same_id(self, stub, mode):
        message = self.request(mode, 400, request_id="twice")
        calls = [stub.Complete.future(message) for _ in range(2)]
        for call in calls:
            self.refused([grpc.StatusCode.ALREADY_EXISTS], call.result)

    def crowd(self, stub, mode):
        calls = [stub.Complete.future(self.request(mode, 20)) for _ in range(20)]
        for call in calls:
            self.refused([], call.result)

    def sleeper(self, stub, mode):
        message = self.request(mode, 4000, return_attention_weights=True)
        message.attention.top_k = 0  # more than HTTP/2 and the mailbox hold between them
        paused = 'ebbinghaus_stream_backpressure_total{action="cancelled"}'
        before = self.server.metrics()[paused]
        stream = stub.Generate(message)

        def call():
            next(stream)
            harness.wait_until(lambda: self.over.is_set() or self.server.metrics()[paused] > before, "the server to cancel")
            stream.cancel()
        self.refused([grpc.StatusCode.CANCELLED], call)
