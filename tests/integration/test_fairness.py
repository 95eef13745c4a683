"""Turns, places and slow readers: nobody is starved, shut out or held up by others."""
import asyncio
import sys
import threading
from pathlib import Path

import grpc
import pytest

import harness

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soak"))
import http2  # noqa: E402

OWN = ("grpc.use_local_subchannel_pool", 1)  # a connection of its own


def channel(server):
    return grpc.insecure_channel(server.grpc_address, options=[OWN])


def cancelled_streams(server):
    return server.metrics()['ebbinghaus_stream_backpressure_total{action="cancelled"}']


def test_a_served_client_is_not_starved_by_new_connections(pb, model):
    newcomers = 4
    with harness.Server(model, "--max-batch", "1", "--max-queue", "64") as server:
        served, stop, errors = [], threading.Event(), []

        def come_without_end():
            while not stop.is_set():
                with channel(server) as fresh:
                    try:
                        pb.Stub(fresh).Complete(harness.go_on(pb, 50), timeout=harness.STEP_SECONDS)
                        served.append(1)
                    except grpc.RpcError as error:
                        errors.append(error)
        threads = [threading.Thread(target=come_without_end) for _ in range(newcomers)]
        for thread in threads:
            thread.start()
        try:
            stub = pb.Stub(server.channel)
            for _ in range(10):
                before = len(served)
                stub.Complete(harness.go_on(pb, 5), timeout=harness.STEP_SECONDS)
                # The one that ran, those that waited, and one that may have been told of late.
                assert len(served) - before <= newcomers + 1
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not errors


def test_a_client_that_filled_batch_and_queue_shuts_nobody_out(pb, model):
    with harness.Server(model, "--max-batch", "2", "--max-queue", "8", "--drain-timeout", "0") as server:
        stub = pb.Stub(server.channel)
        many = [stub.Complete.future(harness.go_on(pb, 6000)) for _ in range(100)]
        harness.wait_until(lambda: sum(call.done() for call in many) == 90, "all but batch and queue to be refused")
        assert harness.status(pb, stub).requests_queued == 8
        with channel(server) as other:
            call = pb.Stub(other).Complete.future(harness.go_on(pb, 3))
            harness.wait_until(lambda: sum(c.done() for c in many) == 91, "one of the many to make room")
            assert harness.status(pb, stub).requests_queued == 8
            refused = [c for c in many if c.done()]
            assert {c.code() for c in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert sum("lost its place" in c.details() for c in refused) == 1
            running = [c for c in many if not c.done()][:1]  # the first to come run
            running[0].cancel()
            assert len(call.result(timeout=harness.STEP_SECONDS).token_ids.ids) == 3
        for c in many:
            c.cancel()


def test_an_id_is_in_nobody_elses_way(pb, model, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("alice %s\nbob %s\n" % ("a" * 20, "b" * 20))
    with harness.Server(model, "--auth-token-file", str(tokens)) as server:
        stub = pb.Stub(server.channel)
        alice, bob = ([("authorization", "Bearer " + letter * 20)] for letter in "ab")
        calls = [stub.Generate(harness.go_on(pb, 6000, request_id="same"), metadata=who) for who in (alice, bob)]
        for call in calls:
            harness.first_token(call)
        with pytest.raises(grpc.RpcError) as error:
            stub.Complete(harness.go_on(pb, 1, request_id="same"), metadata=bob)
        assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS
        for call in calls:
            call.cancel()


def test_pinned_ranges_have_a_limit_that_the_error_names(pb, stub):
    message = harness.go_on(pb, 2, generation_mode=pb.GENERATION_MODE_SPARSE_ATTENTION)
    for i in range(1024):
        message.memory.pinned.add(begin=3 * i, end=3 * i + 1)
    assert len(stub.Complete(message).token_ids.ids) == 2
    for extra in (1, 2_000):
        del message.memory.pinned[1024:]
        message.memory.pinned.extend([message.memory.pinned[0]] * extra)
        with pytest.raises(grpc.RpcError) as error:
            stub.Complete(message)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "memory.pinned" in error.value.details() and "1024" in error.value.details()


async def until(condition, what):
    for _ in range(4000):
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("timed out: " + what)


@pytest.mark.parametrize("method", ["Generate", "Complete"])
def test_a_dead_reader_costs_a_bounded_time_after_the_last_token_too(pb, model, method):
    with harness.Server(model, "--slow-reader-timeout", "1s", "--max-batch", "4", "--max-queue", "64") as server:
        stub = pb.Stub(server.channel)
        message = harness.go_on(pb, 1, generation_mode=pb.GENERATION_MODE_SPARSE_ATTENTION, return_token_weights=True)
        message.text = "the cat sat on the mat " * 200

        async def open_and_never_read():
            connection = await http2.Connection.connect(server.grpc_address, window=0, method=method)
            streams = {connection.begin(message.SerializeToString()) for _ in range(12)}
            await until(lambda: streams <= connection.ended, "the server to end all streams")
            await connection.close(abruptly=False)
        asyncio.run(open_and_never_read())
        harness.wait_idle(pb, stub)
        assert cancelled_streams(server) == 12


def test_a_reader_that_takes_a_little_now_and_then_does_not_hold_its_place(pb, model):
    with harness.Server(model, "--slow-reader-timeout", "1s", "--max-batch", "1") as server:
        stub = pb.Stub(server.channel)
        message = harness.go_on(pb, 6000, return_attention_weights=True)
        message.attention.top_k = 0

        async def read_a_little():
            connection = await http2.Connection.connect(server.grpc_address, window=400)
            stream = connection.begin(message.SerializeToString())

            async def trickle():
                while True:
                    await asyncio.sleep(0.4)
                    connection.grant(stream, 4000)
            reading = asyncio.create_task(trickle())
            paused = 'ebbinghaus_stream_backpressure_total{action="paused"}'
            await until(lambda: server.metrics()[paused] >= 1, "the stream to be paused")
            waits = asyncio.to_thread(stub.Complete, harness.go_on(pb, 3), timeout=harness.STEP_SECONDS)
            assert len((await waits).token_ids.ids) == 3
            reading.cancel()
            await connection.close(abruptly=True)
        asyncio.run(read_a_little())
        assert cancelled_streams(server) == 1
        harness.wait_idle(pb, stub)
