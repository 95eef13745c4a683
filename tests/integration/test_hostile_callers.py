"""What one caller may make the server hold: bodies that are compressed, huge, deep, or never come, with and without a token."""
import re
import socket
import struct
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import harness

C = 8192  # the tiny model's context
SECRET = "a-secret-of-some-length"
ROOM = 64 << 20  # bytes that four hostile clients may add, whatever they send


def peak(server):
    """The largest resident memory since the last `forget_peak`, in bytes."""
    status = open("/proc/%d/status" % server.process.pid, encoding="ascii").read()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024


def forget_peak(server):
    with open("/proc/%d/clear_refs" % server.process.pid, "w", encoding="ascii") as file:
        file.write("5")


def channel(server, **more):
    return grpc.insecure_channel(server.grpc_address, options=[
        ("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)], **more)


def failure(call):
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def raw(on, method, message, **more):
    """The outcome of a call whose message is these bytes. `method`: of the inference service, or /SERVICE/METHOD."""
    call = on.unary_unary(method if method.startswith("/") else "/ebbinghaus.v1.InferenceService/" + method)
    try:
        return call(message, timeout=120, **more)
    except grpc.RpcError as error:
        return error


def four_at_once(server, method, message, **more):
    """Of four clients, each with a connection of its own; what the calls ended with, and how much memory rose at most."""
    ended = [None] * 4

    def client(index):
        with channel(server) as own:
            ended[index] = raw(own, method, message, **more)

    forget_peak(server)
    before = peak(server)
    threads = [threading.Thread(target=client, args=(index,)) for index in range(len(ended))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended, peak(server) - before


@pytest.fixture(scope="module")
def guarded(model, tmp_path_factory):
    """A server that asks for a token."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text("anna %s\n" % SECRET)
    tokens.chmod(0o600)
    with harness.Server(model, "--auth-token-file", str(tokens)) as running:
        yield running


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("metadata", [None, [("authorization", "Bearer " + SECRET)]], ids=["no token", "token"])
def test_a_compressed_message_is_not_inflated(pb, guarded, compression, metadata):
    message = pb.TokenizeRequest(text="a" * 100_000_000)
    forget_peak(guarded)
    before = peak(guarded)
    with channel(guarded, compression=compression) as own:
        error = failure(lambda: pb.Stub(own).Tokenize(message, metadata=metadata))
        assert error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED)
        if metadata:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED and "ompression" in error.details()
    assert peak(guarded) - before < ROOM


@pytest.mark.parametrize("method", ["Generate", "Complete", "Tokenize", "Detokenize", "GetModel", "GetServerStatus", "Score"])
def test_a_message_that_is_too_large_is_refused_while_it_arrives(server, method):
    # The message has the size that its header announces; what arrives is thrown away.
    ended, rise = four_at_once(server, method, field(1000, b"x" * 50_000_000))
    for error in ended:
        assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT), error
    assert rise < ROOM


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
                                    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"])
def test_what_needs_no_token_takes_small_messages_only(guarded, method):
    ended, rise = four_at_once(guarded, method, field(1, b"x" * 20_000_000))
    assert {error.code() for error in ended} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert rise < ROOM / 2


@pytest.mark.parametrize("method", ["Generate", "Tokenize", "GetServerStatus"])
def test_without_a_token_no_message_is_read(guarded, method):
    ended, rise = four_at_once(guarded, method, field(1, b"x" * 20_000_000))
    assert {error.code() for error in ended} == {grpc.StatusCode.UNAUTHENTICATED}
    assert rise < ROOM


# Each is a message of 8,000,000 tiny parts, and one of as many as fit the largest message.
PARTS = {
    "stop": (8, b""), "chat.messages": (3, field(1, b"")), "memory.pinned": (17, field(22, b"")),
    "sampling.logit_bias": (5, field(9, b"")), "stop_token_ids": (9, b"\1"), "request": (1000, b""),
}


@pytest.mark.parametrize("name", PARTS)
def test_many_tiny_parts_take_no_more_memory_than_their_bytes(server, name):
    number, part = PARTS[name]
    part = part * (1000 // max(len(part), 1)) if part else part
    one = field(number, part)
    for size, codes in [(16_000_000, [grpc.StatusCode.RESOURCE_EXHAUSTED]), (320_000, [grpc.StatusCode.INVALID_ARGUMENT])]:
        ended, rise = four_at_once(server, "Generate", one * (size // len(one)))
        for error in ended:
            assert error.code() in codes, error
            if size < 1_000_000:
                assert name in error.details()
        assert rise < ROOM


def test_messages_that_were_read_and_refused_leave_nothing_behind(pb, model):
    with harness.Server(model) as own:
        message = field(1, b"x" * 4_000_000)  # gRPC reads it, and it is more than the method takes
        for attempt in range(17):
            ended, _ = four_at_once(own, "Detokenize", message)
            assert {error.code() for error in ended} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            if attempt == 0:
                before = own.resources()["resident_bytes"]  # with what gRPC itself takes once
        # Held, the others were 256 MB.
        assert own.resources()["resident_bytes"] - before < ROOM
        assert pb.Stub(own.channel).GetModel(pb.GetModelRequest()).context_tokens == C


def test_text_that_is_not_utf8_is_named(server):
    error = raw(server.channel, "Generate", field(1, b"a\xff"))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "text: must be valid UTF-8" in error.details()


@pytest.mark.parametrize("message", [b"\x0a\x05abc", b"\x0b\x0c", b"\xff" * 100])
def test_bytes_that_are_no_message_are_an_invalid_argument(pb, server, stub, message):
    for method in ["Generate", "Complete", "Tokenize", "Detokenize", "Score"]:
        assert raw(server.channel, method, message).code() == grpc.StatusCode.INVALID_ARGUMENT
    assert stub.GetModel(pb.GetModelRequest()).context_tokens == C


def test_ids_and_texts_longer_than_the_context_are_not_converted(pb, stub):
    assert stub.Detokenize(pb.DetokenizeRequest(ids=[70] * C)).text
    error = failure(lambda: stub.Detokenize(pb.DetokenizeRequest(ids=[70] * (C + 1))))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ids" in error.details() and str(C) in error.details()
    assert len(stub.Tokenize(pb.TokenizeRequest(text="x" * C)).ids) == C
    error = failure(lambda: stub.Tokenize(pb.TokenizeRequest(text="x" * (C + 1))))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "text" in error.details() and str(C) in error.details()
    error = failure(lambda: stub.Detokenize(pb.DetokenizeRequest(ids=[70] * 4_000_000)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_heavy_texts_keep_no_other_client_waiting_until_they_are_done(pb, server, stub):
    heavy = pb.TokenizeRequest(text="the and ing " * 2000)
    with channel(server) as own:
        calls = [pb.Stub(own).Tokenize.future(heavy) for _ in range(100)]
        stub.Tokenize(pb.TokenizeRequest(text="small"))
        assert sum(call.done() for call in calls) < len(calls)
        health = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        for call in calls:
            assert len(call.result().ids) > 0


def test_calls_that_are_given_up_leave_nothing_behind(pb, server, stub):
    heavy = pb.TokenizeRequest(text="the and ing " * 2000)
    with channel(server) as own:
        for _ in range(5):
            calls = [pb.Stub(own).Tokenize.future(heavy) for _ in range(50)]
            for call in calls:
                call.cancel()
    assert stub.Tokenize(pb.TokenizeRequest(text="small")).ids


# Below gRPC's libraries: source of the frames is RFC 9113, of the headers' encoding RFC 7541 (literals without indexing).
def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def headers(address, path, extra=()):
    def text(value):
        data = value.encode()
        return (bytes([len(data)]) if len(data) < 127 else bytes([127]) + varint(len(data) - 127)) + data
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address), ("te", "trailers"),
              ("content-type", "application/grpc"), *extra]
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields)


def talk(address, frames, until):
    """Sends the frames on a connection of its own; the payloads of HEADERS and DATA that come, up to one with `until`."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=harness.STEP_SECONDS) as own:
        own.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frames)
        data, payloads = b"", []
        while not any(until in payload for payload in payloads):
            received = own.recv(65536)
            assert received, payloads
            data += received
            while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                size, kind = int.from_bytes(data[:3], "big"), data[3]
                if kind in (0, 1):
                    payloads.append(data[9:9 + size])
                data = data[9 + size:]
        return payloads


def message_frame(stream, message, flag=b"\0"):
    return frame(0, 1, stream, flag + struct.pack(">I", len(message)) + message)


GET_MODEL, TOKENIZE, COMPLETE = ("/ebbinghaus.v1.InferenceService/" + name for name in ["GetModel", "Tokenize", "Complete"])


@pytest.mark.parametrize("timeout", ["99999999H", "99999999M", "99999999S", "2562048H"])
def test_a_deadline_beyond_the_clocks_range_is_far_away(pb, server, timeout):
    for path, message in [(GET_MODEL, b""), (COMPLETE, pb.GenerateRequest(text="abc", max_new_tokens=2).SerializeToString())]:
        opened = frame(1, 4, 1, headers(server.grpc_address, path, [("grpc-timeout", timeout)]))
        payloads = talk(server.grpc_address, opened + message_frame(1, message), b"grpc-status")
        assert b"grpc-status\x010" in payloads[-1], payloads


def test_a_deadline_that_has_passed_ends_the_call(pb, server):
    opened = frame(1, 4, 1, headers(server.grpc_address, COMPLETE, [("grpc-timeout", "1n")]))
    message = pb.GenerateRequest(text="abc", max_new_tokens=2).SerializeToString()
    payloads = talk(server.grpc_address, opened + message_frame(1, message), b"grpc-status")
    assert any(b"grpc-status\x014" in payload for payload in payloads), payloads


def test_the_token_is_looked_at_before_any_of_the_message_has_come(guarded):
    payloads = talk(guarded.grpc_address, frame(1, 4, 1, headers(guarded.grpc_address, TOKENIZE)), b"grpc-status")
    assert b"grpc-status\x0216" in payloads[-1], payloads


def test_a_message_flagged_as_compressed_without_saying_how_is_refused(server):
    opened = frame(1, 4, 1, headers(server.grpc_address, TOKENIZE))
    payloads = talk(server.grpc_address, opened + message_frame(1, b"\x1f\x8b" * 100, flag=b"\1"), b"grpc-status")
    assert b"grpc-status\x010" not in payloads[-1], payloads


def test_the_accepted_encoding_is_told_with_the_refusal(server):
    opened = frame(1, 4, 1, headers(server.grpc_address, TOKENIZE, [("grpc-encoding", "gzip")]))
    payloads = talk(server.grpc_address, opened + message_frame(1, b"", flag=b"\1"), b"grpc-status")
    assert b"grpc-status\x0212" in payloads[-1], payloads


@pytest.mark.parametrize("size", [20_000, 60_000])
def test_metadata_as_large_as_proxies_send_ends_no_call(pb, server, size):
    with channel(server) as own:
        stub = pb.Stub(own)
        stream = stub.Generate(pb.GenerateRequest(text="the", max_new_tokens=200, ignore_eos=True))
        next(stream)
        assert stub.Tokenize(pb.TokenizeRequest(text="abc"), metadata=[("cookie", "x" * size)]).ids
        assert list(stream)[-1].finished.usage.generated_tokens == 200


def test_refused_calls_are_counted_and_have_no_duration(pb, guarded):
    before = guarded.metrics()
    with channel(guarded) as own:
        for method in [pb.Stub(own).Complete, lambda request: next(pb.Stub(own).Generate(request))]:
            assert failure(lambda: method(pb.GenerateRequest(text="abc"))).code() == grpc.StatusCode.UNAUTHENTICATED
        answer = raw(own, "Complete", b"\x0b", metadata=[("authorization", "Bearer " + SECRET)])
        assert answer.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert pb.Stub(own).Complete(pb.GenerateRequest(text="abc", max_new_tokens=1),
                                     metadata=[("authorization", "Bearer " + SECRET)]).text is not None
    after = guarded.metrics()

    def moved(name, code=None):
        series = 'ebbinghaus_%s{%smode="baseline"}' % (name, 'code="%s",' % code if code else "")
        return after.get(series, 0) - before.get(series, 0)
    assert moved("requests_total", "UNAUTHENTICATED") == 2
    assert moved("requests_total", "INVALID_ARGUMENT") == 1
    assert moved("requests_total", "OK") == 1
    assert moved("request_duration_seconds_count") == 1
