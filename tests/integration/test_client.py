"""The client's program against the server's."""
import json
import os
import pathlib
import signal
import subprocess

import pytest

import harness

CLIENT = str(pathlib.Path(harness.PROGRAM).with_name("ebbinghaus"))
LONG = 6000  # tokens; far more than a test waits for


@pytest.fixture(scope="module", autouse=True)
def client_is_built():
    assert os.path.exists(CLIENT), "no client at " + CLIENT


def command(server, name, *arguments):
    return [CLIENT, name, "--target", server.grpc_address, *arguments]


def run(server, name, *arguments, text=None):
    return subprocess.run(command(server, name, *arguments), input=text, capture_output=True, text=True,
                          timeout=harness.START_SECONDS)


def start_long(server):
    """A long generation whose first text has arrived."""
    process = subprocess.Popen(command(server, "generate", "--raw", "--prompt", "go on", "--max-tokens", str(LONG),
                                       "--ignore-eos"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(1)
    return process


def wait_until_idle(pb, stub):
    def idle():
        now = stub.GetServerStatus(pb.GetServerStatusRequest())
        return now.requests_running == 0 and now.requests_queued == 0 and now.kv_used_bytes == 0
    harness.wait_until(idle, "the server to be idle")


def test_the_streamed_text_is_the_answers_text(pb, stub, server):
    message = pb.GenerateRequest(text="some words\n", max_new_tokens=40, ignore_eos=True)
    message.sampling.temperature = 0
    whole = stub.Complete(message).text
    ran = run(server, "generate", "--raw", "--max-tokens", "40", "--ignore-eos", "--temperature", "0", text="some words\n")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (whole if whole.endswith("\n") else whole + "\n")
    assert ran.stderr == ""


def test_json_events_carry_what_the_flags_asked_for(server):
    ran = run(server, "generate", "--prompt", "hi", "--mode", "sparse_attention", "--preset", "tight", "--memory",
              "max_live_tokens=300,pinned=1-3", "--seed", "7", "--top-k", "5", "--json", "--max-tokens", "3")
    assert ran.returncode == 0, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    started = events[0]["started"]
    assert started["mode"] == "GENERATION_MODE_SPARSE_ATTENTION"
    assert started["seed"] == "7"
    assert started["sampling"]["top_k"] == 5
    assert started["memory"]["max_live_tokens"] == 300
    assert started["memory"]["time_step"] == 0.175
    assert started["memory"]["pinned"] == [{"begin": 1, "end": 3}]
    assert "finished" in events[-1]


def test_ctrl_c_ends_the_call_and_frees_it(pb, stub, server):
    process = start_long(server)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=harness.STEP_SECONDS)
    assert process.returncode == 130
    assert b"CANCELLED" in errors
    wait_until_idle(pb, stub)


def test_a_reader_that_goes_away_ends_the_call(pb, stub, server):
    process = start_long(server)
    process.stdout.close()
    process.stderr.read()
    assert process.wait(harness.STEP_SECONDS) != 0
    wait_until_idle(pb, stub)


def test_compare_runs_every_mode_and_sees_forgetting(server):
    ran = run(server, "compare", "--raw", "--prompt", "one two three " * 20, "--max-tokens", "20", "--tight-tokens", "400",
              "--memory", "soft_floor=0.5,sink_tokens=2", "--repeat", "2", "--json")
    assert ran.returncode == 0, ran.stderr
    modes = json.loads(ran.stdout)["modes"]
    assert [mode["name"] for mode in modes] == ["baseline", "soft_delete", "sparse_attention", "sparse_attention (tight)"]
    assert [mode["generated_tokens"] for mode in modes] == [20, 20, 20, 400]
    assert all(len(mode["runs"]) == 2 and mode["tokens_per_second"] > 0 for mode in modes)
    assert modes[0]["forgotten_tokens"] == 0
    assert modes[3]["live_tokens"] + modes[3]["forgotten_tokens"] == modes[3]["memory_stats"]["total_tokens"]


def test_compare_prints_a_row_per_mode(server):
    ran = run(server, "compare", "--prompt", "hi", "--max-tokens", "5", "--verbose")
    assert ran.returncode == 0, ran.stderr
    rows = ran.stdout.splitlines()
    assert rows[0].split()[:4] == ["mode", "tokens", "seconds", "tokens/s"]
    assert [row.split()[:2] for row in rows[2:5]] == [["baseline", "5"], ["soft_delete", "5"], ["sparse_attention", "5"]]
    assert "mean retention" in ran.stdout


def test_a_refusal_is_told_with_its_code_and_field(server):
    ran = run(server, "generate", "--prompt", "hi", "--temperature", "9")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "INVALID_ARGUMENT" in ran.stderr and "temperature" in ran.stderr


def test_tokenize_shows_what_the_model_reads(server):
    ids = json.loads(run(server, "tokenize", "--raw", "--json", "--prompt", "two words").stdout)["ids"]
    lines = run(server, "tokenize", "--raw", "--prompt", "two words").stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == ids and ids
    chat = json.loads(run(server, "tokenize", "--json", "--prompt", "two words").stdout)["ids"]
    assert len(chat) > len(ids)  # the template's part


def test_info_and_health_answer(server):
    info = run(server, "info")
    assert info.returncode == 0, info.stderr
    assert server.model_name in info.stdout and "serving" in info.stdout
    health = run(server, "health")
    assert (health.returncode, health.stdout) == (0, "SERVING\n")
