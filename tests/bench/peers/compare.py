#!/usr/bin/env python3
"""Measures Ebbinghaus and its peers on the same files in interleaved rounds; scripts/peers.sh calls it.

Every engine is a process of its own that obeys protocol.py's orders, and is stopped by a signal while another one's turn
is measured, so that none spins beside it. A turn is a few steps; its result their median. A ratio is the median over the
rounds of ours beside the faster peer in the same round, so that a neighbour who slows a whole round down does not count.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Case:
    phase: str     # decode | prefill
    batch: int
    context: int
    live: int = 0  # tokens that eviction leaves, 0: none is asked for

    def name(self):
        text = "prefill %d" % self.context if self.phase == "prefill" else "decode %dx%d" % (self.batch, self.context)
        return text + (" -> %d" % self.live if self.live else "")


class Engine:
    """A driver's process, stopped except during `ask`."""

    def __init__(self, name, ours, command, log):
        self.name, self.ours = name, ours
        self.process = subprocess.Popen([str(part) for part in command], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=log)
        self.read()
        os.kill(self.process.pid, signal.SIGSTOP)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("%s ended; its words are in the log" % self.name)
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError("%s: %s" % (self.name, reply["error"]))
        return reply

    def ask(self, order):
        os.kill(self.process.pid, signal.SIGCONT)
        try:
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
            return self.read()
        finally:
            os.kill(self.process.pid, signal.SIGSTOP)

    def end(self):
        self.process.kill()
        self.process.wait()


def start_engines(options, kind, live, log, engines):
    """Adds those that can read a file of this type, and forget if that is asked for."""
    path = options.folder / ("qwen-%s.gguf" % kind)
    ours = [options.bench, "--driver", "--threads", options.threads, "--model", path, "--kv",
            "bf16" if kind == "bf16" else "int8", "--weights"]
    python = options.folder / "venv/bin/python"
    commands = [("ours", True, ours + ["auto"])]
    if kind == "q8_0":
        commands.insert(0, ("ours, int8", True, ours + ["int8"]))
    if kind != "bf16" and "openvino" in options.peers:
        keep = [live] if live else []
        commands.append(("OpenVINO", False, [python, HERE / "openvino_driver.py", path, options.threads] + keep))
    if not live and "llama.cpp" in options.peers:
        commands.append(("llama.cpp", False, [python, HERE / "llama_driver.py", path, options.threads]))
    for name, is_ours, command in commands:
        print("starting %s on %s" % (name, path.name), file=sys.stderr)
        engines.append(Engine(name, is_ours, command, log))


def turn(engine, case, steps):
    """Tokens per second, and the bandwidth beside it where the engine tells."""
    if case.phase == "prefill":
        return case.context / engine.ask("prefill %d" % case.context)["seconds"], None
    reply = engine.ask("step %d" % steps)
    return case.batch / statistics.median(reply["step_seconds"]), reply.get("probe_gb_per_second")


def prepare(engine, case, options):
    """Whether the engine can do the case, which is then open; says why if not."""
    order = "prefill %d" % min(case.context, 512)  # warms up
    if case.phase == "decode":
        order = "open %d %d %d" % (case.batch, case.context, options.rounds * options.steps)
        if case.live:
            order += " %d" % case.live
    try:
        engine.ask(order)
    except RuntimeError as error:
        print("%s left out: %s" % (case.name(), error), file=sys.stderr)
        return False
    return True


def measure(engines, case, options):
    """[{engine: tokens per second}] by round, and the probes."""
    rounds, probes = [], []
    for number in range(options.rounds):
        speeds = {}
        for i in range(len(engines)):  # each goes first in turn
            engine = engines[(number + i) % len(engines)]
            speeds[engine.name], probe = turn(engine, case, options.steps)
            probes += [probe] if probe else []
        rounds.append(speeds)
    if case.phase == "decode":
        for engine in engines:
            engine.ask("close")
    return rounds, probes


def report(kind, case, engines, rounds, probes, file):
    medians = {engine.name: statistics.median(speeds[engine.name] for speeds in rounds) for engine in engines}
    peers = [engine.name for engine in engines if not engine.ours]
    best = max(peers, key=medians.get) if peers else None
    for engine in engines:
        ratio = None
        if engine.ours and best:
            ratio = statistics.median(speeds[engine.name] / speeds[best] for speeds in rounds)
        print("%-5s %-20s %-11s %9.1f tokens/s %s" % (kind, case.name(), engine.name, medians[engine.name],
                                                      "%6.2f x %s" % (ratio, best) if ratio else ""), flush=True)
        if file:
            row = {"file": kind, "phase": case.phase, "batch": case.batch, "context": case.context,
                   "live_tokens": case.live or None, "engine": engine.name,
                   "tokens_per_second": round(medians[engine.name], 2),
                   "rounds": [round(speeds[engine.name], 2) for speeds in rounds],
                   "best_peer": best if engine.ours else None, "ratio_to_best_peer": ratio and round(ratio, 3),
                   "probe_gb_per_second": round(statistics.median(probes), 2) if probes else None}
            file.write(json.dumps(row) + "\n")
            file.flush()


def plan(options):
    """[(file type, eviction, cases)]: engines are started once for each."""
    decode = [Case("decode", batch, context) for batch, context in options.decode]
    if options.long_contexts:
        decode += [Case("decode", 1, 16384), Case("decode", 1, 32000)]
    prefill = [Case("prefill", 1, tokens) for tokens in options.prefill]
    runs = [(kind, 0, decode + prefill) for kind in options.types if decode or prefill]
    for live in sorted({live for _, _, live in options.evict}):
        cases = [Case("decode", b, c, l) for b, c, l in options.evict if l == live]
        runs.append(("q8_0", live, cases))
    return runs


def parse():
    def numbers(text):
        return [] if text == "none" else [tuple(int(n) for n in item.split("x")) for item in text.split(",")]

    def words(text):
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=pathlib.Path, required=True, help="the program ebbinghaus-bench")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="with venv and qwen-TYPE.gguf")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--types", type=words, default="q8_0,q4_0,bf16")
    parser.add_argument("--peers", type=words, default="openvino,llama.cpp")
    parser.add_argument("--decode", type=numbers, default="1x64,4x64,8x64,16x64,8x512,1x4096", help="BATCHxCONTEXT,...")
    parser.add_argument("--prefill", type=numbers, default="512,2048")
    parser.add_argument("--evict", type=numbers, default="1x8192x1024,4x4096x1024", help="BATCHxCONTEXTxKEPT,...")
    parser.add_argument("--long-contexts", action="store_true", help="also 16384 and 32000 tokens, which peers read for long")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="of a turn")
    parser.add_argument("--json", type=pathlib.Path, help="also write a JSON object per row and line")
    options = parser.parse_args()
    options.prefill = [tokens for tokens, in options.prefill]
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no stopped engine is left behind
    with open(options.folder / "engines.log", "w") as log, \
            open(options.json or os.devnull, "w") as file:
        for kind, live, cases in plan(options):
            engines = []
            try:
                start_engines(options, kind, live, log, engines)
                for case in cases:
                    print("%s: preparing" % case.name(), file=sys.stderr)
                    able = [engine for engine in engines if prepare(engine, case, options)]
                    report(kind, case, able, *measure(able, case, options), options.json and file)
            finally:
                for engine in engines:
                    engine.end()


if __name__ == "__main__":
    main()
