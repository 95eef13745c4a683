"""Several replicas without a proxy: clients of Python and Node.js with deploy/client/service-config.json."""
import asyncio
import collections
import json
import os
import pathlib
import subprocess

import grpc
import pytest

import harness
import replicas
from replicas import Answer, Fleet, channels

DEPLOYED = harness.ROOT / "deploy/client/service-config.json"
NODE_CLIENT = pathlib.Path(__file__).parent / "node/streams.js"


def with_channels(fleet, count, scenario):
    async def connected():
        async with channels(fleet.target(), count, ("grpc.service_config", DEPLOYED.read_text())) as made:
            return await scenario(made)
    return asyncio.run(connected())


def test_python_loses_only_answers_that_had_begun_when_a_replica_is_killed(pb, model, tmp_path):
    with Fleet(model, tmp_path, 2, "--max-queue", "100") as fleet:
        async def scenario(made):
            await replicas.until_served_by(pb, fleet, 0, made)
            answers = await replicas.kill_under_load(pb, fleet, 0, made)
            replicas.check_killed(answers, fleet, 0)
            await asyncio.to_thread(fleet.start, 0)
            await replicas.until_served_by(pb, fleet, 0, made)
        with_channels(fleet, 4, scenario)


@pytest.mark.parametrize("propagation", ["3s", "0s"])
def test_python_loses_no_call_in_a_rolling_restart(pb, model, tmp_path, propagation):
    """It watches the replicas' health."""
    with Fleet(model, tmp_path, 2, "--drain-propagation", propagation, "--drain-timeout", "60s") as fleet:
        answers = with_channels(fleet, 4, lambda made: replicas.restart_one_by_one(pb, fleet, made))
        replicas.check_nothing_lost(pb, answers, fleet)


def test_node_loses_only_answers_that_had_begun_when_a_replica_is_killed(pb, model, tmp_path, node):
    program, modules = node
    file = tmp_path / "streams.log"
    with Fleet(model, tmp_path, 2, "--max-queue", "100") as fleet, file.open("w") as output:
        def lines():
            """Whole ones: it may be writing another."""
            return [json.loads(line) for line in file.read_text().splitlines(True) if line.endswith("}\n")]

        client = subprocess.Popen(
            [program, str(NODE_CLIENT), fleet.target(), str(harness.ROOT / "proto"), str(DEPLOYED), str(replicas.STREAMS),
             str(replicas.LONG)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "NODE_PATH": modules})
        def alive():
            assert client.poll() is None, lines()
            return True

        try:
            harness.wait_until(lambda: alive() and replicas.victim_is_loaded(fleet, pb, 0), "the victim to be loaded",
                               replicas.PATIENCE)
            harness.wait_until(lambda: {"begun": fleet.name(0)} in lines(), "a token from the victim", replicas.PATIENCE)
            assert replicas.victim_is_loaded(fleet, pb, 0), "too fast: there is nothing to lose"
            fleet.kill(0)
            assert client.wait(replicas.PATIENCE) == 0
        finally:
            client.kill()
            client.wait()
        ended = [line for line in lines() if "code" in line]
        codes = {code.value[0]: code for code in grpc.StatusCode}
        answers = [Answer(codes[line["code"]], line["details"], line["responded"], pb.Started(model=line["model"]),
                          line["tokens"],
                          pb.Finished(usage=pb.Usage(generated_tokens=line["tokens"])) if line["finished"] else None)
                   for line in ended]
        assert len(answers) == replicas.STREAMS
        assert set(collections.Counter(answer.replica for answer in answers)) >= {fleet.name(0), fleet.name(1)}
        replicas.check_killed(answers, fleet, 0)
