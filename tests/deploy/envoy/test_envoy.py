"""Several replicas behind the real Envoy, with deploy/envoy/envoy.yaml as it is but for the addresses."""
import asyncio
import collections
import contextlib
import os
import subprocess
import time

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

import harness
import replicas
from envoy import DEPLOYED, Envoy, validate
from replicas import Fleet, ask, channels, long_request

CLIENT = os.environ.get("EBBINGHAUS_CLIENT", os.path.join(os.path.dirname(harness.PROGRAM), "ebbinghaus"))
CONVERSATIONS = 60
# Longer than a page of the cache, and ends where a word ends, so that the ids of a longer text begin with these.
TEXT = " ".join(["It was the best of times, it was the worst of times, it was the age of wisdom."] * 2)


def with_channels(proxy, count, scenario, *options):
    async def connected():
        async with channels(proxy.address, count, *options) as made:
            return await scenario(made)
    return asyncio.run(connected())


@pytest.fixture(scope="module")
def pair(model, tmp_path_factory):
    """Two replicas that no test breaks."""
    with Fleet(model, tmp_path_factory.mktemp("pair"), 2) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def proxy(pair, envoy_program, tmp_path_factory):
    with Envoy(envoy_program, tmp_path_factory.mktemp("proxy"), pair.grpc_addresses()) as running:
        yield running


def test_envoy_takes_the_deployed_file_without_a_complaint(envoy_program):
    done = validate(envoy_program, DEPLOYED)
    assert done.returncode == 0, done.stderr
    assert "[warning]" not in done.stderr and "eprecated" not in done.stderr, done.stderr


def test_every_method_goes_through(pb, proxy):
    with grpc.insecure_channel(proxy.address) as channel:
        stub = pb.Stub(channel)
        assert stub.GetModel(pb.GetModelRequest()).vocabulary_size == 300
        assert stub.Complete(pb.GenerateRequest(text="x", max_new_tokens=3, ignore_eos=True)).token_ids.ids
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"  # SERVING
        with pytest.raises(grpc.RpcError) as error:
            stub.Complete(pb.GenerateRequest(text="x", max_new_tokens=0))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(long_request(pb, tokens=6000), timeout=0.3))
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def turn(pb, conversation, n):
    """The n-th turn's whole prompt; no two conversations begin alike."""
    message = pb.GenerateRequest(text="Conversation %d. %s%s" % (conversation, TEXT, " And then?" * n), max_new_tokens=4)
    return message


async def take_turns(pb, made, n, affinity):
    return await asyncio.gather(*(
        ask(pb, made[i % len(made)], turn(pb, i, n), (("ebbinghaus-affinity", "talk-%d" % i),) if affinity else None)
        for i in range(CONVERSATIONS)))


def cached(answers):
    return sum(answer.started.cached_prompt_tokens > 0 for answer in answers)


def test_a_conversation_with_affinity_finds_its_prefix_and_without_calls_spread(pb, model, envoy_program, tmp_path):
    with Fleet(model, tmp_path, 2) as fleet, Envoy(envoy_program, tmp_path, fleet.grpc_addresses()) as proxy:
        async def scenario(made):
            return [[await take_turns(pb, made, n, affinity) for n in (0, 1)] for affinity in (True, False)]
        with_affinity, without = with_channels(proxy, 4, scenario)
        assert all(answer.whole for answers in (*with_affinity, *without) for answer in answers)
        first, second = with_affinity
        assert cached(first) == 0
        assert cached(second) >= 0.95 * CONVERSATIONS
        # Several conversations on each, and each where it was.
        assert min(collections.Counter(answer.replica for answer in first).values()) >= CONVERSATIONS / 6
        assert sum(a.replica == b.replica for a, b in zip(first, second)) >= 0.95 * CONVERSATIONS
        # The servers say the same as the clients: who read less than it was given.
        hits = sum(fleet.metric(i, 'tokens_total{kind="prompt_cached",mode="baseline"}') for i in range(2))
        assert hits >= sum(answer.started.cached_prompt_tokens for answer in second) > 0
        for answers in without:
            assert min(collections.Counter(answer.replica for answer in answers).values()) >= CONVERSATIONS / 4


def test_our_client_names_the_conversation(proxy):
    def replica_of(*arguments):
        done = subprocess.run([CLIENT, "generate", "--target", proxy.address, "--prompt", "x", "--max-tokens", "1", "--json",
                               *arguments], capture_output=True, text=True, timeout=harness.STEP_SECONDS, check=True)
        return next(line for line in done.stdout.splitlines() if '"started"' in line).split('"model":"')[1].split('"')[0]
    for name in ("anna", "berta"):
        assert len({replica_of("--affinity", name) for _ in range(6)}) == 1
    # The ring puts some names on one and some on the other.
    assert len({replica_of("--affinity", "talk-%d" % i) for i in range(12)}) == 2


def test_when_a_replica_is_killed_only_answers_that_had_begun_are_lost(pb, model, envoy_program, tmp_path):
    with Fleet(model, tmp_path, 2, "--max-queue", "100") as fleet, \
            Envoy(envoy_program, tmp_path, fleet.grpc_addresses()) as proxy:
        async def scenario(made):
            await replicas.until_served_by(pb, fleet, 0, made)
            answers = await replicas.kill_under_load(pb, fleet, 0, made)
            # All that a proxy can do to an answer that has begun is reset it, and gRPC calls that INTERNAL.
            replicas.check_killed(answers, fleet, 0, grpc.StatusCode.INTERNAL)
            ejections = "outlier_detection.ejections_enforced_consecutive_local_origin_failure"
            assert proxy.statistic("cluster.ebbinghaus." + ejections) >= 1
            assert proxy.statistic("cluster.ebbinghaus.upstream_rq_retry_success") >= 5
            # Conversations of the dead one move, for as long as it is dead.
            moved = await take_turns(pb, made, 0, affinity=True)
            assert {(answer.whole, answer.replica) for answer in moved} == {(True, fleet.name(1))}
            await asyncio.to_thread(fleet.start, 0)
            await replicas.until_served_by(pb, fleet, 0, made)
        with_channels(proxy, 4, scenario)


@pytest.mark.parametrize("propagation", ["3s", "0s"])
def test_a_rolling_restart_under_load_loses_no_call(pb, model, envoy_program, tmp_path, propagation):
    with Fleet(model, tmp_path, 2, "--drain-propagation", propagation, "--drain-timeout", "60s") as fleet, \
            Envoy(envoy_program, tmp_path, fleet.grpc_addresses()) as proxy:
        answers = with_channels(proxy, 4, lambda made: replicas.restart_one_by_one(pb, fleet, made))
        replicas.check_nothing_lost(pb, answers, fleet)


def bulky_request(pb):
    """Its answer is many megabytes, more than any buffer on its way holds: unread, it never ends."""
    request = long_request(pb, tokens=8000, return_attention_weights=True)
    request.attention.top_k = 0
    return request


@contextlib.contextmanager
def filled(pb, fleet, replica):
    """One runs and one waits: with --max-batch 1 and --max-queue 1 there is no more room. They come from two connections, so
    that neither has more than a third that comes, and need not make room for it."""
    def ask_of(channel):
        return pb.Stub(channel).Generate(bulky_request(pb))

    own = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(fleet.servers[replica].grpc_address, own) as one, \
            grpc.insecure_channel(fleet.servers[replica].grpc_address, own) as other:
        running = ask_of(one)
        next(running)
        waiting = ask_of(other)
        harness.wait_until(lambda: fleet.status(pb, replica).requests_queued == 1, "the second to wait")
        yield
        running.cancel()
        waiting.cancel()


def rejected(fleet, replica):
    return fleet.metric(replica, 'requests_rejected_total{reason="queue_full"}')


def padded(pb, message, size):
    """The same with a field that the server does not know, of `size` bytes."""
    length = bytes([size & 0x7f | 0x80, size >> 7 & 0x7f | 0x80, size >> 14 & 0x7f | 0x80, size >> 21])
    return pb.GenerateRequest.FromString(message.SerializeToString() + b"\xc2\x3e" + length + b"x" * size)


def test_what_a_full_replica_refuses_goes_to_the_other(pb, model, envoy_program, tmp_path):
    # --slow-reader-timeout: nobody reads what fills the servers.
    with Fleet(model, tmp_path, 2, "--max-batch", "1", "--max-queue", "1", "--slow-reader-timeout", "1h",
               "--drain-timeout", "0s") as fleet, Envoy(envoy_program, tmp_path, fleet.grpc_addresses()) as proxy:
        async def one_by_one(made):
            answers = []
            for i in range(20):  # Envoy does not know that replica 0 is full, and so tries it again and again
                answers.append(await ask(pb, made[0], long_request(pb, i, tokens=2),
                                         (("ebbinghaus-affinity", "talk-%d" % i),) if i % 2 else None))
            # A request of 256 KiB, which is about what this model takes, is kept for another attempt too.
            before, end = rejected(fleet, 0), time.monotonic() + replicas.PATIENCE
            while rejected(fleet, 0) == before:
                assert time.monotonic() < end, "replica 0 is never tried"
                answers.append(await ask(pb, made[0], padded(pb, long_request(pb, tokens=2), 256 << 10)))
                assert answers[-1].whole, answers[-1]
            return answers

        with filled(pb, fleet, 0):
            answers = with_channels(proxy, 1, one_by_one)
            assert {(answer.whole, answer.replica) for answer in answers} == {(True, fleet.name(1))}
            assert rejected(fleet, 0) >= 5

            # When all are full, the client learns it as from one, and when to come back.
            with filled(pb, fleet, 1):
                answer = with_channels(proxy, 1, lambda made: ask(pb, made[0], long_request(pb)),
                                       ("grpc.enable_retries", 0))
        assert answer.code == grpc.StatusCode.RESOURCE_EXHAUSTED and not answer.started, answer
        assert answer.trailers["grpc-retry-pushback-ms"] == "1000"
        detail = error_details_pb2.RetryInfo()
        assert status_pb2.Status.FromString(answer.trailers["grpc-status-details-bin"]).details[0].Unpack(detail)
        assert detail.retry_delay.seconds == 1


def test_a_stream_that_nobody_reads_is_cancelled_by_the_server_behind_envoy_too(pb, model, envoy_program, tmp_path):
    with Fleet(model, tmp_path, 1, "--slow-reader-timeout", "1s") as fleet, \
            Envoy(envoy_program, tmp_path, fleet.grpc_addresses()) as proxy, grpc.insecure_channel(proxy.address) as channel:
        slow = pb.Stub(channel).Generate(bulky_request(pb))
        next(slow)  # and reads no further
        harness.wait_until(lambda: fleet.metric(0, 'stream_backpressure_total{action="cancelled"}') == 1,
                           "the stream to be cancelled", replicas.PATIENCE)
        with pytest.raises(grpc.RpcError):
            list(slow)
        harness.wait_until(lambda: fleet.status(pb, 0).requests_running == 0, "its place to be free")
