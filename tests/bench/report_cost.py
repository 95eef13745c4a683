#!/usr/bin/env python3
"""What reports cost others: the gaps between a plain stream's tokens, alone, beside eight plain streams, and beside eight that
want a memory snapshot and all attention for every token.

  report_cost.py BIN_FOLDER --model PATH [--prompt-tokens 7000] [--neighbours 8] [--seconds 20] [server flags]

Answers are not parsed, so that the clients take little processor time from the server. Nothing asserts a time. Needs grpcio
and grpcio-tools, as the tests in tests/integration do (their virtual environment has them).
"""
import argparse
import pathlib
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration")]


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]


class Stream:
    """Reads one call as fast as it comes; when each message came."""

    def __init__(self, channel, request):
        call = channel.unary_stream("/ebbinghaus.v1.InferenceService/Generate",
                                    request_serializer=lambda m: m.SerializeToString(), response_deserializer=len)
        self.call, self.times, self.bytes = call(request), [], 0
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            for size in self.call:
                self.times.append(time.monotonic())
                self.bytes += size
        except Exception:  # cancelled at the end
            pass


def measure(grpc, pb, server, arguments, neighbours, reports):
    def request(new_tokens, prompt, salt, mode, **fields):
        message = pb.GenerateRequest(generation_mode=mode, max_new_tokens=new_tokens, ignore_eos=True, **fields)
        message.token_ids.ids.extend((i * 37 + salt * 101) % 200 + 3 for i in range(prompt))
        message.sampling.temperature = 0
        return message

    def channel():
        return grpc.insecure_channel(server.grpc_address, options=[
            ("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)])
    left = arguments.context - arguments.prompt_tokens - 1
    others = []
    for i in range(neighbours):
        message = request(left, arguments.prompt_tokens, i + 1, pb.GENERATION_MODE_SPARSE_ATTENTION)
        if reports:
            message.memory_every_n_tokens = 1
            message.return_attention_weights = True
            message.attention.top_k = 0
        others.append(Stream(channel(), message))
    while any(len(s.times) < 2 for s in others):
        time.sleep(0.1)
    plain = Stream(channel(), request(arguments.context - 20, 16, 99, pb.GENERATION_MODE_BASELINE))
    while len(plain.times) < 5:
        time.sleep(0.01)
    begin, before = len(plain.times), sum(len(s.times) for s in others)
    time.sleep(arguments.seconds)
    end = len(plain.times)
    gaps = [(b - a) * 1000 for a, b in zip(plain.times[begin:end], plain.times[begin + 1:end])]
    told = sum(len(s.times) for s in others) - before
    for stream in [plain, *others]:
        stream.call.cancel()
    for stream in [plain, *others]:
        stream.thread.join()
    if not gaps:
        return "no token in %g s" % arguments.seconds
    return "gap p50 %7.1f ms, p99 %7.1f, largest %7.1f (%d tokens); the others: %.1f messages/s" % (
        quantile(gaps, 0.5), quantile(gaps, 0.99), max(gaps), len(gaps), told / arguments.seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin_folder")
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt-tokens", type=int, default=7000)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--neighbours", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    arguments, flags = parser.parse_known_args()
    import harness
    harness.PROGRAM = str(pathlib.Path(arguments.bin_folder) / "ebbinghaus-server")
    import grpc
    with tempfile.TemporaryDirectory() as folder:
        pb = harness.stubs(pathlib.Path(folder))
        for name, neighbours, reports in [("alone", 0, False), ("plain neighbours", arguments.neighbours, False),
                                          ("neighbours with reports", arguments.neighbours, True)]:
            with harness.Server(arguments.model, "--max-batch", "16", "--drain-timeout", "0", *flags, defaults=()) as server:
                print("%-24s %s" % (name, measure(grpc, pb, server, arguments, neighbours, reports)), flush=True)


if __name__ == "__main__":
    main()
