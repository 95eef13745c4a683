#!/usr/bin/env python3
"""Calls a real server in every good and bad way for a while, then looks at what it has kept.

  soak.py SERVER [--calls N] [--resets N] [--seed N] [--minutes N]

A program and no pytest module, since it is one long run with a table at its end, which one wants to see also when all is
well, and since its long form takes half an hour. What is called is the same for the same seed; what happens is not, for
time plays a part. Prints calls by kind and status and what the server held before and after; exit code 1 where a call ended
as it should not or the server kept something.
"""
import argparse
import asyncio
import collections
import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

import grpc
import grpc.aio

import hostile
import http2

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tests/support")]

VOCABULARY = 300  # of the tiny model
AT_ONCE = 24      # calls; a third more than run, so that some always wait
CHANNELS = 6
SLOW_READER_SECONDS = 2
KV_BYTES = 32 << 20  # small enough to be full at times
CALL_SECONDS = 120   # a call that takes longer hangs
RESIDENT_GROWTH = 1.05
VARY = {"descriptors": 0, "threads": 2}  # gRPC's own pool has a thread more or less
ZERO = {"ebbinghaus_" + name for name in ("kv_used_bytes", "requests_running", "requests_queued", "queued_prompt_tokens",
                                          "live_tokens")}  # when nothing runs

# kind: (share of the calls, statuses it may end with). Whoever generates may find the queue or the memory full.
OK, CANCELLED, LATE, FULL, BAD = "OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"
KINDS = {
    "generate": (28, {OK, FULL}),
    "complete": (20, {OK, FULL}),
    "cancel": (12, {OK, FULL, CANCELLED}),
    "cancel at once": (4, {OK, FULL, CANCELLED}),
    "deadline": (8, {OK, FULL, LATE}),
    "bad input": (9, {BAD, FULL}),  # a full queue refuses before anything is looked at
    "slow reader": (3, {OK, FULL, CANCELLED}),  # CANCELLED where others wait and its pauses add up to the timeout
    "stalled reader": (1, {OK, FULL, CANCELLED}),  # OK where forgetting keeps its rows so short that the buffers hold them all
    "process killed": (2, {"killed", "exit 0", "exit 1"}),
    "process stopped": (2, {"exit 0", "exit 1", "killed"}),
    "same request id": (2, {OK, FULL, "ALREADY_EXISTS"}),
    "tokenize": (4, {OK}),
    "model, status": (3, {OK}),
    "metrics": (2, {OK}),
    # What hostile.py does.
    "compressed": (1, {"UNIMPLEMENTED"}),
    "too large": (1, {FULL}),
    "tiny parts": (1, {BAD, FULL}),
    "many ids": (1, {OK, BAD, FULL}),
    "heavy texts": (1, {OK, BAD, FULL}),
    "many ranges": (1, {OK, BAD, FULL}),
    "much metadata": (1, {OK, FULL, "UNAVAILABLE", "INTERNAL"}),  # above 64 KiB gRPC 1.51 closes the connection
    "extreme values": (6, {OK, BAD, FULL}),
    "costly reports": (1, {OK, FULL}),
    "dead reader": (2, {"ended"}),
    "trickling reader": (1, {"ended"}),
    "newcomer": (4, {"ended"}),
    "trickled http": (0.5, {"ended"}),
    "many scrapes": (0.5, {"ended"}),
}


@dataclasses.dataclass
class Call:
    kind: str
    request: object  # GenerateRequest
    wait: float      # seconds, until whatever the kind does
    choice: float    # [0, 1), for kinds of several forms


class Planner:
    """Makes the calls out of the seed."""

    def __init__(self, pb, seed):
        self.pb = pb
        self.random = random.Random(seed)

    def calls(self, count):
        kinds = list(KINDS)
        shares = [KINDS[kind][0] for kind in kinds]
        return [self.call(kind) for kind in self.random.choices(kinds, shares, k=count)]

    def call(self, kind):
        bulky = kind in ("slow reader", "stalled reader")
        request = self.request(longest=60, bulky=bulky)
        if kind in ("cancel", "deadline", "process killed"):
            request.max_new_tokens = 2000  # so that most are still running by then
            request.ignore_eos = True
        if kind == "bad input":
            self.spoil(request)
        wait = self.random.uniform(0.001, 0.3)
        if kind == "slow reader":
            wait = self.random.uniform(0.2, SLOW_READER_SECONDS * 0.8)
        if kind == "stalled reader":
            wait = SLOW_READER_SECONDS * 5  # the time counts from when all buffers are full, which takes a busy server a while
        if kind == "same request id":
            request.request_id = "shared-%d" % self.random.randrange(3)
        return Call(kind, request, wait, self.random.random())

    def request(self, longest, bulky=False):
        pb, rng = self.pb, self.random
        request = pb.GenerateRequest(max_new_tokens=rng.randint(1, longest), ignore_eos=rng.random() < 0.7)
        form = rng.random()
        if form < 0.4:
            request.text = " ".join(rng.choice(["the", "and", "in a", "wörld", "\u4e2d", "of"])
                                    for _ in range(rng.randint(1, 60)))
        elif form < 0.8:
            request.token_ids.ids.extend(rng.randrange(VOCABULARY) for _ in range(rng.choice([1, 16, 64, 200, 900])))
        else:
            request.chat.messages.add(role="user", content="go on " * rng.randint(1, 20))
        request.generation_mode = rng.choice([0, 1, 2, 3])
        if request.generation_mode > 1 and rng.random() < 0.6:
            request.memory.preset = rng.choice([1, 2, 3, 4])
        if request.generation_mode == 3 and rng.random() < 0.3:
            request.memory.max_live_tokens = rng.randint(128, 300)
        sampling = request.sampling
        sampling.temperature = rng.choice([0, 0.7, 1.5])
        if rng.random() < 0.3:
            sampling.top_k, sampling.top_p, sampling.min_p = rng.randint(0, VOCABULARY), rng.uniform(0.1, 1), rng.random()
        if rng.random() < 0.2:
            sampling.repetition_penalty, sampling.presence_penalty = rng.uniform(0.5, 2), rng.uniform(-2, 2)
            sampling.logit_bias[rng.randrange(VOCABULARY)] = rng.uniform(-100, 100)
        if rng.random() < 0.2:
            request.return_logprobs, request.top_logprobs = True, rng.randint(0, 20)
        if rng.random() < 0.2:
            request.stop.append(rng.choice(["the", " a", "zz"]))
        if rng.random() < 0.2 and request.generation_mode > 1:
            request.return_token_weights = request.return_forget_events = True
            request.memory_every_n_tokens = rng.randint(1, 8)
        if bulky or rng.random() < 0.1:
            request.return_attention_weights = True
            request.attention.top_k = 0
        if bulky:  # more than a connection's buffers hold
            del request.token_ids.ids[:]
            request.token_ids.ids.extend(rng.randrange(VOCABULARY) for _ in range(400))
            request.max_new_tokens, request.ignore_eos = 300, True
        return request

    def spoil(self, request):
        rng = self.random
        fault = rng.randrange(7)
        if fault == 0:
            request.sampling.temperature = rng.choice([-1, 3, float("nan"), float("inf")])
        elif fault == 1:
            request.max_new_tokens = rng.choice([0, 1 << 31])
        elif fault == 2:
            request.stop_token_ids.extend(range(VOCABULARY, VOCABULARY + rng.choice([1, 16, 1000])))
        elif fault == 3:
            request.ClearField(request.WhichOneof("input"))
        elif fault == 4:
            request.token_ids.ids.append(VOCABULARY + rng.randrange(1 << 20))
        elif fault == 5:
            request.stop.extend("x" * rng.choice([1, 257]) for _ in range(17))
        else:
            request.generation_mode = 1
            request.memory.time_step = 1


class StallingLog:
    """Reads the server's log, and at times does not for some seconds."""

    KEPT = 200  # pieces

    def __init__(self, rng):
        self.random = rng
        self.pieces = collections.deque(maxlen=self.KEPT)
        self.end, self.for_server = os.pipe()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while piece := os.read(self.end, 1 << 16):
            self.pieces.append(piece)
            if self.random.random() < 0.02:
                self.over.wait(self.random.uniform(1, 10))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """When the server has ended."""
        self.over.set()
        os.close(self.for_server)
        self.thread.join()
        os.close(self.end)

    def text(self):
        return b"".join(self.pieces).decode(errors="replace")


class Soak:
    def __init__(self, harness, pb, server, seed):
        self.harness, self.pb, self.server = harness, pb, server
        self.client = str(pathlib.Path(harness.PROGRAM).with_name("ebbinghaus"))
        self.planner = Planner(pb, seed)
        self.random = random.Random(seed + 1)  # of the resets, which run beside the calls
        self.table = collections.defaultdict(collections.Counter)
        self.violations = []
        self.channels, self.narrow_channel, self.hostile = [], None, None

    # What each kind does: the name of the status it ends with.

    def stub(self, call):
        if call.kind in ("slow reader", "stalled reader"):
            return self.pb.Stub(self.narrow_channel)
        return self.pb.Stub(self.channels[int(call.choice * 1000) % len(self.channels)])

    async def generate(self, call, stub):
        async for _ in stub.Generate(call.request):
            pass

    async def complete(self, call, stub):
        await stub.Complete(call.request)

    async def cancel(self, call, stub):
        stream = stub.Generate(call.request)
        asyncio.get_running_loop().call_later(call.wait, stream.cancel)
        async for _ in stream:
            pass

    async def cancel_at_once(self, call, stub):
        stream = stub.Generate(call.request)
        if call.choice < 0.5:
            await asyncio.sleep(0)  # the loop's next turn sends it, or not yet
        stream.cancel()
        async for _ in stream:
            pass

    async def deadline(self, call, stub):
        if call.choice < 0.3:
            await stub.Complete(call.request, timeout=call.wait)
            return
        async for _ in stub.Generate(call.request, timeout=call.wait):
            pass

    bad_input = complete

    async def slow_reader(self, call, stub):
        waited = False
        async for event in stub.Generate(call.request):
            if event.WhichOneof("event") == "token" and not waited:
                waited = True
                await asyncio.sleep(call.wait)

    stalled_reader = slow_reader

    same_request_id = complete

    async def tokenize(self, call, stub):
        text = "the and of wörld " * (1 + int(call.choice * 50))
        ids = (await stub.Tokenize(self.pb.TokenizeRequest(text=text))).ids
        back = (await stub.Detokenize(self.pb.DetokenizeRequest(ids=ids))).text
        if back != text:
            self.violations.append("%r comes back as %r" % (text, back))

    async def model_status(self, call, stub):
        await stub.GetModel(self.pb.GetModelRequest())
        await stub.GetServerStatus(self.pb.GetServerStatusRequest())

    async def metrics(self, call, stub):
        path = "/metrics" if call.choice < 0.7 else "/readyz"
        status, _, _ = await asyncio.to_thread(self.server.http, path)
        return OK if status == 200 else "HTTP %d" % status

    async def start_client(self, tokens):
        return await asyncio.create_subprocess_exec(
            self.client, "generate", "--target", self.server.grpc_address, "--raw", "--prompt", "go on", "--ignore-eos",
            "--max-tokens", str(tokens), "--mode", "sparse_attention", env=self.harness.environment(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)

    async def process_killed(self, call, stub):
        process = await self.start_client(2000)
        if call.choice < 0.7:
            await process.stdout.read(1)
        await asyncio.sleep(call.wait / 3)
        return await self.end_process(process, kill=True)

    async def process_stopped(self, call, stub):
        process = await self.start_client(400)
        if call.choice < 0.7:
            await process.stdout.read(1)
        self.send(process, signal.SIGSTOP)
        await asyncio.sleep(call.wait * 3)
        if call.choice > 0.3:
            self.send(process, signal.SIGCONT)
        return await self.end_process(process, kill=call.choice <= 0.3)

    @staticmethod
    def send(process, number):
        """The process's own send_signal() first asks how it ended, which it then hides from asyncio (exit code 255)."""
        with contextlib.suppress(ProcessLookupError):  # it was refused, and has ended
            if process.returncode is None:
                os.kill(process.pid, number)

    async def end_process(self, process, kill):
        if kill:
            self.send(process, signal.SIGKILL)
        await process.communicate()
        return "killed" if process.returncode == -signal.SIGKILL else "exit %d" % process.returncode

    async def one(self, call):
        name = call.kind.replace(", ", "_").replace(" ", "_")
        act = getattr(self, name, None)
        act = act(call, self.stub(call)) if act else getattr(self.hostile, name)()
        said = ""
        try:
            # The library's own limit would be a deadline, and so another call.
            status = await asyncio.wait_for(act, CALL_SECONDS) or OK
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            said = error.details()
        except asyncio.TimeoutError:
            status = "hangs"
        except asyncio.CancelledError:
            status = CANCELLED  # grpc.aio's way to tell of a call cancelled from here
        self.table[call.kind][status] += 1
        if status not in KINDS[call.kind][1]:
            self.violations.append("%s ended as %s %s" % (call.kind, status, said[:200]))

    async def reset_streams(self, count):
        """Opens and resets so many streams, on few connections."""
        done = 0
        while done < count:
            connection = await http2.Connection.connect(self.server.grpc_address)
            on_this_one = min(count - done, self.random.randint(1, 200))
            while on_this_one > 0 and connection.open:
                burst = min(on_this_one, self.random.randint(1, 40))
                streams = [connection.begin(self.planner_of_resets.request(200).SerializeToString()) for _ in range(burst)]
                if self.random.random() < 0.5:
                    await connection.writer.drain()
                    await asyncio.sleep(self.random.uniform(0, 0.02))
                for stream in streams:
                    connection.reset(stream)
                try:
                    await connection.writer.drain()
                except ConnectionError:
                    break
                on_this_one -= burst
                done += burst
                self.table["stream reset"]["reset"] += burst
                await asyncio.sleep(0.01)
            if not connection.open:
                self.table["stream reset"]["connection ended by the server"] += 1
            await connection.close(abruptly=self.random.random() < 0.5)

    async def run(self, calls, resets):
        """All of them, so many at once."""
        self.planner_of_resets = Planner(self.pb, self.random.random())
        free = asyncio.Semaphore(AT_ONCE)

        async def one(call):
            async with free:
                await self.one(call)
        resetting = asyncio.create_task(self.reset_streams(resets))
        await asyncio.gather(*(one(call) for call in calls))
        await resetting

    # What the server has in the end.

    def left(self):
        """What should be 0 when nothing runs, and is not."""
        stub = self.pb.Stub(self.server.channel)
        now = stub.GetServerStatus(self.pb.GetServerStatusRequest(), timeout=self.harness.STEP_SECONDS)
        values = {"status " + name: getattr(now, name) for name in ("requests_running", "requests_queued", "kv_used_bytes")}
        values.update((series, value) for series, value in self.server.metrics().items() if series.split("{")[0] in ZERO)
        return {name: value for name, value in values.items() if value != 0}

    async def settle(self):
        """Waits until nothing is running; what the server holds then. The loop goes on meanwhile: gRPC needs it."""
        try:
            await asyncio.to_thread(self.harness.wait_until, lambda: not self.left(), "the server to have nothing left")
        except AssertionError as error:
            self.violations.append("%s: %s" % (error, self.left()))
        return await asyncio.to_thread(self.held)

    async def soak(self, calls, resets):
        """What the server held after the first calls and after all, with the same connections open both times: when gRPC
        gives up a closed channel's is up to it. Others come and go, from http2.py and from processes that end."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self.channels = [grpc.aio.insecure_channel(self.server.grpc_address, options=options) for _ in range(CHANNELS)]
        # gRPC widens a connection's window as data comes; here what a reader leaves unread shall be felt at once.
        options = [*options, ("grpc.http2.bdp_probe", 0)]
        self.narrow_channel = grpc.aio.insecure_channel(self.server.grpc_address, options=options)
        self.hostile = hostile.Hostile(self.pb, self.server.grpc_address, self.server.http_address, self.random)
        await self.warm_up()
        first = min(500, len(calls) // 2)
        first_resets = resets * first // len(calls)
        await self.run(calls[:first], first_resets)
        before = await self.settle()
        await self.run(calls[first:], resets - first_resets)
        after = await self.settle()
        for channel in [*self.channels, self.narrow_channel]:
            await channel.close()
        await self.hostile.close()
        return before, after

    def held(self, seconds=3):
        """The least of some readings: connections that were just closed go within moments."""
        readings = []
        for _ in range(10):
            readings.append(self.server.resources())
            time.sleep(seconds / 10)
        return {key: min(reading[key] for reading in readings) for key in readings[0]}

    async def warm_up(self):
        """Touches all of the K/V memory, and every kind of call once or more, so that what is measured is growth."""
        prompts = [self.pb.GenerateRequest(max_new_tokens=200, ignore_eos=True) for _ in range(AT_ONCE)]
        for prompt in prompts:
            prompt.token_ids.ids.extend(self.random.randrange(VOCABULARY) for _ in range(2500))
        calls = [Call("complete", prompt, 0, i / AT_ONCE) for i, prompt in enumerate(prompts)]
        calls += [self.planner.call(kind) for kind in KINDS for _ in range(3)]
        await self.run(calls, 100)
        await self.settle()
        self.table.clear()

    def print_table(self):
        for kind in [*KINDS, "stream reset"]:
            counts = self.table[kind]
            print("  %-16s %6d   %s" % (kind, sum(counts.values()), ", ".join(
                "%s %d" % item for item in counts.most_common())))


def compare(before, after, violations):
    for key in before:
        print("  %-16s %12d after the first calls, %12d in the end" % (key, before[key], after[key]))
    if after["resident_bytes"] > before["resident_bytes"] * RESIDENT_GROWTH:
        violations.append("resident memory grew from %d to %d bytes" % (before["resident_bytes"], after["resident_bytes"]))
    for key, more in VARY.items():
        if after[key] > before[key] + more:
            violations.append("%s: %d before, %d after" % (key, before[key], after[key]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--resets", type=int, default=0, help="streams opened and reset; default: as many as calls")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30, help="a run that takes longer has failed")
    arguments = parser.parse_args()
    os.environ["EBBINGHAUS_SERVER"] = arguments.server
    import harness  # pylint: disable=import-outside-toplevel  # reads the environment
    import make_tiny_model  # pylint: disable=import-outside-toplevel

    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        pb = harness.stubs(folder)
        flags = ["--weights", "f32", "--kv", "f32", "--threads", "1", "--kv-memory", str(KV_BYTES), "--max-batch", "16",
                 "--max-queue", "24", "--slow-reader-timeout", "%ds" % SLOW_READER_SECONDS]
        model = make_tiny_model.make(pathlib.Path(folder) / "model")
        with StallingLog(random.Random(arguments.seed)) as log, \
                harness.Server(model, defaults=flags, log=log.for_server) as server:
            soak = Soak(harness, pb, server, arguments.seed)
            resets = arguments.resets or arguments.calls
            before, after = asyncio.run(soak.soak(soak.planner.calls(arguments.calls), resets))
            seconds = time.monotonic() - begin
            print("%d calls and %d resets in %.0f s, seed %d:" % (arguments.calls, resets, seconds, arguments.seed))
            soak.print_table()
            compare(before, after, soak.violations)
            if seconds > arguments.minutes * 60:
                soak.violations.append("took %.0f s" % seconds)
            if soak.violations:
                print("descriptors in the end: " + ", ".join(server.descriptors()))
                print("threads in the end: " + ", ".join(server.threads()))
                print("the end of the server's log:\n" + log.text()[-2000:])
            server.channel.close()
            server.signal()
            code = server.wait(60)
            if code != 0:
                soak.violations.append("the server exits with %d" % code)
    for violation, count in collections.Counter(soak.violations).most_common(30):
        print("VIOLATION (%d times): %s" % (count, violation))
    print("soak: %s" % ("%d violations" % len(soak.violations) if soak.violations else "all is well"))
    sys.exit(1 if soak.violations else 0)


if __name__ == "__main__":
    main()
