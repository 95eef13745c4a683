"""Python's grpc.aio: streaming, cancelling, deadlines, many bad fields."""
import asyncio

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import harness
from thousand import NAMED, thousand_faults

pytestmark = pytest.mark.foreign


def run(server, pb, scenario):
    async def connected():
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            await asyncio.wait_for(scenario(pb.Stub(channel)), harness.STEP_SECONDS)
    asyncio.run(connected())


def long_request(pb):
    return pb.GenerateRequest(text="go on", max_new_tokens=6000, ignore_eos=True)


async def until_idle(pb, stub):
    while True:
        now = await stub.GetServerStatus(pb.GetServerStatusRequest())
        if now.requests_running == 0 and now.requests_queued == 0 and now.kv_used_bytes == 0:
            return
        await asyncio.sleep(0.005)


def test_many_streams_at_once(pb, server):
    async def scenario(stub):
        async def one(i):
            request = pb.GenerateRequest(text="client %d" % i, max_new_tokens=20, ignore_eos=True)
            return [event.WhichOneof("event") async for event in stub.Generate(request)]
        for kinds in await asyncio.gather(*(one(i) for i in range(12))):
            assert kinds == ["started", *["token"] * 20, "finished"]
    run(server, pb, scenario)


def test_cancelling_the_task_cancels_the_call(pb, server):
    async def scenario(stub):
        begun = asyncio.Event()

        async def read():
            async for event in stub.Generate(long_request(pb)):
                if event.WhichOneof("event") == "token":
                    begun.set()
        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_idle(pb, stub)
    run(server, pb, scenario)


def test_a_deadline(pb, server):
    async def scenario(stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Generate(long_request(pb), timeout=0.3):
                pass
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until_idle(pb, stub)
    run(server, pb, scenario)


@pytest.mark.parametrize("method", ["Generate", "Complete"])
def test_a_thousand_bad_fields(pb, server, method):
    async def scenario(stub):
        for request, end in thousand_faults(pb):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                if method == "Complete":
                    await stub.Complete(request)
                async for _ in stub.Generate(request):
                    pass
            error = caught.value
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert error.details().endswith(end) and len(error.details().encode()) <= 4096
            bad = error_details_pb2.BadRequest()
            status = rpc_status.from_call(error)
            assert status.details[0].Unpack(bad)
            assert len(bad.field_violations) == (NAMED if "violations" in end else 1)
    run(server, pb, scenario)
