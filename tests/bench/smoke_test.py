#!/usr/bin/env python3
"""Runs the bench on a tiny model: that it ends well, and that its JSON rows have the keys that scripts rely on.

  smoke_test.py BENCH MODEL.gguf
"""
import json
import pathlib
import subprocess
import sys
import tempfile

KEYS = {"weights", "kv", "mode", "phase", "batch", "context", "live_fraction", "tokens_per_second", "step_milliseconds",
        "probe_gb_per_second", "percent_of_probe"}
TINY = ["--threads", "2", "--rounds", "1"]


def rows_of(bench, model, *flags):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rows.jsonl")
        subprocess.run([bench, "--model", model, "--json", str(path), *TINY, *flags], check=True)
        return [json.loads(line) for line in path.read_text().splitlines()]


def check(condition, what):
    if not condition:
        sys.exit("bench_smoke: " + what)


def main():
    bench, model = sys.argv[1:3]
    rows = rows_of(bench, model, "--weights", "f32,int8", "--kv", "bf16,int8", "--contexts", "16", "--batches", "2x16",
                   "--live", "0.5", "--live-at", "1x144", "--prefill", "16")
    for row in rows:
        check(set(row) == KEYS, "keys are %s" % sorted(row))
        check(row["tokens_per_second"] > 0 and row["step_milliseconds"] > 0, "no speed in %s" % row)
        check((row["percent_of_probe"] is None) == (row["phase"] == "prefill"), "percent_of_probe of %s" % row)
    expected = 2 * 2 * (3 + 2 + 2 + 2)  # forms x (one stream, batch, live beside baseline, prompts)
    check(len(rows) == expected, "%d rows, not %d" % (len(rows), expected))
    check({row["mode"] for row in rows} == {"baseline", "soft_delete", "sparse_attention"}, "not every mode")
    check(any(row["live_fraction"] == 0.5 for row in rows), "no row that forgets")

    rows = rows_of(bench, model, "--engine", "reference", "--weights", "f32", "--kv", "f32", "--contexts", "16", "--batches",
                   "none", "--live", "none", "--prefill", "none")
    check(len(rows) == 3, "%d rows of the reference engine" % len(rows))

    rows = rows_of(bench, model, "--long", "64", "--long-baseline", "32")
    check([row["mode"] for row in rows] == ["sparse_attention", "baseline"], "rows of the long generation")

    orders = "prefill 16\nopen 2 16 4\nstep 2\nclose\nopen 1 144 4 80\nstep 1\nnonsense\n"
    answers = subprocess.run([bench, "--model", model, "--driver", *TINY], input=orders, text=True, check=True,
                             stdout=subprocess.PIPE).stdout.splitlines()
    answers = [json.loads(line) for line in answers]
    check(len(answers) == 8, "%d answers to 7 orders" % (len(answers) - 1))
    check(["error" in answer for answer in answers] == [False] * 7 + [True], "answers %s" % answers)
    check(len(answers[3]["step_seconds"]) == 2, "steps %s" % answers[3])

    wrong = subprocess.run([bench, "--no-such-flag"], stderr=subprocess.DEVNULL, check=False)
    check(wrong.returncode == 2, "a wrong flag exits with %d" % wrong.returncode)
    print("bench_smoke: all is well")


if __name__ == "__main__":
    main()
