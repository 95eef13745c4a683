"""TLS, tokens, limits, and what errors tell: who gets in, and what the others learn."""
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import threading

import grpc
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import harness
import test_validation

CLIENT = str(pathlib.Path(harness.PROGRAM).with_name("ebbinghaus"))
LONG = 6000  # tokens
ANNA, BEN = "annas-secret-0123456789", "bens-secret-0123456789"
FRESH = ("grpc.use_local_subchannel_pool", 1)  # a connection of its own


class Authority:
    """Makes certificates with the openssl program."""

    def __init__(self, folder, name):
        folder.mkdir()
        self.folder, self.cert, self.key = folder, folder / "ca.pem", folder / "ca.key"
        self._openssl(self.cert, self.key, "/CN=" + name)

    @staticmethod
    def _openssl(cert, key, subject, *more):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "2", "-subj", subject, "-out", cert, "-keyout", key, *more], check=True,
                       capture_output=True)

    def issue(self, name, alternative):
        """(certificate file, key file)"""
        cert, key = self.folder / (name + ".pem"), self.folder / (name + ".key")
        self._openssl(cert, key, "/CN=" + name, "-CA", self.cert, "-CAkey", self.key, "-addext",
                      "subjectAltName=" + alternative, "-addext", "basicConstraints=critical,CA:FALSE")
        return cert, key


class Secret:
    """A folder of files as Kubernetes mounts it: links over ..data, which is swapped for a new version."""

    def __init__(self, folder, **files):
        self.folder, self.version = folder, 0
        folder.mkdir()
        self.replace(**files)
        for name in files:
            (folder / name).symlink_to(pathlib.Path("..data") / name)

    def replace(self, **files):
        old = self.folder / ("..v%d" % self.version)
        self.version += 1
        new = self.folder / ("..v%d" % self.version)
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content if isinstance(content, bytes) else pathlib.Path(content).read_bytes())
        (self.folder / "..tmp").symlink_to(new.name)
        os.replace(self.folder / "..tmp", self.folder / "..data")
        if old.exists():
            shutil.rmtree(old)

    def __getitem__(self, name):
        return str(self.folder / name)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "first", "first authority")


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "second", "second authority")


@pytest.fixture(scope="module")
def certificate(first):
    """The server's: (certificate file, key file)"""
    return first.issue("server", "IP:127.0.0.1,DNS:ebbinghaus.test")


def tls_flags(files):
    return ["--tls-cert", str(files[0]), "--tls-key", str(files[1])]


def secure_channel(server, authority, client=None):
    key, cert = (client[1].read_bytes(), client[0].read_bytes()) if client else (None, None)
    return grpc.secure_channel(server.grpc_address, grpc.ssl_channel_credentials(authority.cert.read_bytes(), key, cert),
                               options=[FRESH])


def bearer(secret):
    return [("authorization", "Bearer " + secret)]


def answers(pb, channel, metadata=None):
    """Whether a call on a new channel is answered; closes it."""
    with channel:
        try:
            pb.Stub(channel).GetModel(pb.GetModelRequest(), timeout=harness.STEP_SECONDS, metadata=metadata)
            return True
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED), error
            return False


def long_request(pb, **fields):
    return pb.GenerateRequest(text="go on", max_new_tokens=LONG, ignore_eos=True, **fields)


def client(server, command, *arguments, target=None):
    return subprocess.run([CLIENT, command, "--target", target or server.grpc_address, *map(str, arguments)],
                          capture_output=True, text=True, timeout=harness.START_SECONDS, input="")


# ---- TLS ----

def test_tls_serves_those_who_trust_the_certificate(pb, model, first, second, certificate):
    with harness.Server(model, *tls_flags(certificate)) as server:
        assert answers(pb, secure_channel(server, first))
        assert not answers(pb, secure_channel(server, second))
        assert not answers(pb, grpc.insecure_channel(server.grpc_address, options=[FRESH]))
        with secure_channel(server, first) as channel:
            assert len(list(pb.Stub(channel).Generate(pb.GenerateRequest(text="x", max_new_tokens=2, ignore_eos=True)))) == 4

        ran = client(server, "generate", "--raw", "--prompt", "x", "--max-tokens", "2", "--tls-ca", first.cert)
        assert ran.returncode == 0, ran.stderr
        ran = client(server, "health", "--tls-ca", first.cert, "--tls-server-name", "ebbinghaus.test")
        assert (ran.returncode, ran.stdout) == (0, "SERVING\n"), ran.stderr
        ran = client(server, "health", "--tls-ca", first.cert, "--tls-server-name", "other.test", "--timeout", "2")
        assert ran.returncode == 1 and "UNAVAILABLE" in ran.stderr
        ran = client(server, "health", "--tls-ca", second.cert, "--timeout", "2")
        assert ran.returncode == 1 and "certificate verify failed" in ran.stderr
        assert client(server, "health", "--timeout", "2").returncode == 1


def test_mutual_tls_asks_clients_for_a_certificate(pb, model, first, second, certificate):
    anna, stranger = second.issue("anna", "DNS:anna.test"), first.issue("stranger", "DNS:stranger.test")
    with harness.Server(model, *tls_flags(certificate), "--tls-client-ca", str(second.cert)) as server:
        assert answers(pb, secure_channel(server, first, anna))
        assert not answers(pb, secure_channel(server, first, stranger))
        assert not answers(pb, secure_channel(server, first))
        tls = ["--tls-ca", first.cert]
        ran = client(server, "info", *tls, "--tls-cert", anna[0], "--tls-key", anna[1])
        assert ran.returncode == 0, ran.stderr
        assert client(server, "info", *tls, "--timeout", "2").returncode == 1


def test_a_new_certificate_is_served_while_streams_go_on(pb, model, first, second, certificate, tmp_path):
    secret = Secret(tmp_path / "secret", cert=certificate[0], key=certificate[1])
    new = second.issue("server", "IP:127.0.0.1")
    with harness.Server(model, "--tls-cert", secret["cert"], "--tls-key", secret["key"], "--slow-reader-timeout", "0") as server:
        with secure_channel(server, first) as channel:
            # Paused by its reader, so that it is underway all the time.
            stream = pb.Stub(channel).Generate(long_request(pb, return_attention_weights=True))
            assert next(stream).HasField("started")
            secret.replace(cert=new[0], key=new[1])
            harness.wait_until(lambda: answers(pb, secure_channel(server, second)), "the new certificate")
            assert not answers(pb, secure_channel(server, first))
            # Calls on the old connection still work as well.
            assert pb.Stub(channel).GetModel(pb.GetModelRequest()).name
            for replacement in [dict(cert=b"broken", key=b"broken"), dict(cert=certificate[0], key=new[1]),
                                dict(cert=new[0])]:
                failures = server.read_log().count("reload_failed")
                secret.replace(**replacement)
                harness.wait_until(lambda: server.read_log().count("reload_failed") > failures, "the warning")
                assert answers(pb, secure_channel(server, second))
            secret.replace(cert=certificate[0], key=certificate[1])
            harness.wait_until(lambda: answers(pb, secure_channel(server, first)), "the old certificate again")
            for event in stream:
                pass
            assert event.finished.usage.generated_tokens == LONG
        assert "PRIVATE" not in server.read_log()


def test_files_that_tls_cannot_use_are_one_line_and_exit_one(model, first, certificate, tmp_path):
    other = first.issue("other", "DNS:other.test")
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"\xff\x00\x1b[31m" * 9)
    for arguments, named in [((certificate[0], other[1]), other[1]), ((garbage, certificate[1]), garbage),
                             ((certificate[0], garbage), garbage), ((tmp_path / "none", certificate[1]), "none"),
                             ((tmp_path, certificate[1]), tmp_path)]:
        ended = harness.run("--model", str(model), "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                            *tls_flags(arguments))
        assert ended.returncode == 1 and ended.stdout == "", ended
        assert ended.stderr[:-1].isprintable() and str(named) in ended.stderr, ended.stderr
    ended = harness.run("--model", str(model), *tls_flags(certificate), "--tls-client-ca", str(garbage))
    assert ended.returncode == 1 and str(garbage) in ended.stderr


def test_flags_that_belong_together_are_named(model, certificate):
    for flags, named in [(["--tls-cert", "x"], ["--tls-cert", "--tls-key"]), (["--tls-key", "x"], ["--tls-cert", "--tls-key"]),
                         (["--tls-client-ca", "x"], ["--tls-client-ca", "--tls-cert"])]:
        ended = harness.run("--model", str(model), *flags)
        assert ended.returncode == 2 and all(name in ended.stderr for name in named), ended.stderr


# ---- Tokens ----

@pytest.fixture
def tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# who may call\nanna %s\nben %s\n" % (ANNA, BEN))
    return file


def test_a_token_lets_in_and_nothing_else_does(pb, model, tokens, tmp_path):
    with harness.Server(model, "--auth-token-file", str(tokens)) as server:
        stub = pb.Stub(server.channel)
        for secret in [ANNA, BEN]:
            assert stub.Complete(pb.GenerateRequest(text="x", max_new_tokens=1), metadata=bearer(secret)).text is not None
        for metadata in [None, bearer(ANNA[:-1]), bearer("anna"), [("authorization", ANNA)], bearer(ANNA) + bearer(BEN)]:
            for call in [lambda: list(stub.Generate(pb.GenerateRequest(text="x"), metadata=metadata)),
                         lambda: stub.Tokenize(pb.TokenizeRequest(text="x"), metadata=metadata),
                         lambda: stub.GetServerStatus(pb.GetServerStatusRequest(), metadata=metadata)]:
                with pytest.raises(grpc.RpcError) as error:
                    call()
                assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
                assert error.value.details() and ANNA[:12] not in error.value.details()
        assert server.metrics()['ebbinghaus_requests_rejected_total{reason="unauthenticated"}'] == 15

        # What watches the server needs none.
        health = health_pb2_grpc.HealthStub(server.channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        assert server.http("/metrics")[0] == server.http("/readyz")[0] == server.http("/healthz")[0] == 200
        assert "ebbinghaus.v1.InferenceService" in ProtoReflectionDescriptorDatabase(server.channel).get_services()

        for text, code in [(ANNA + "\n", 0), ("anna " + ANNA, 0), (ANNA[1:], 1), (ANNA + "\nmore", 2), ("", 2)]:
            file = tmp_path / "clients-token"
            file.write_text(text)
            ran = client(server, "info", "--token-file", file)
            assert ran.returncode == code, (text, ran.stderr)
            assert ANNA[1:] not in ran.stderr
        assert client(server, "info").returncode == 1
        assert client(server, "health").returncode == 0
        log = server.read_log()
        assert ANNA not in log and BEN not in log


def test_new_tokens_count_soon_and_broken_ones_never(pb, model, tmp_path):
    secret = Secret(tmp_path / "secret", tokens=b"anna %s\n" % ANNA.encode())
    with harness.Server(model, "--auth-token-file", secret["tokens"]) as server:
        def known(token):
            return answers(pb, grpc.insecure_channel(server.grpc_address, options=[FRESH]), bearer(token))
        assert known(ANNA) and not known(BEN)
        secret.replace(tokens=b"ben %s\n" % BEN.encode())
        harness.wait_until(lambda: known(BEN), "the new token")
        assert not known(ANNA)
        for broken in [b"ben %s\nanna short\n" % BEN.encode(), b"", b"anna %s\nben %s\n" % (ANNA.encode(), ANNA.encode())]:
            failures = server.read_log().count("reload_failed")
            secret.replace(tokens=broken)
            harness.wait_until(lambda: server.read_log().count("reload_failed") > failures, "the warning")
            assert known(BEN) and not known(ANNA)
        log = server.read_log()
        assert re.search(r"warning reload_failed .*line 2", log)
        assert ANNA not in log and BEN not in log and "short" not in log


def test_tokens_under_tls(pb, model, first, certificate, tokens, tmp_path):
    with harness.Server(model, *tls_flags(certificate), "--auth-token-file", str(tokens), "--listen", "0.0.0.0:0") as server:
        server.grpc_address = server.grpc_address.replace("0.0.0.0", "127.0.0.1")
        assert answers(pb, secure_channel(server, first), bearer(ANNA))
        assert not answers(pb, secure_channel(server, first), bearer("x" * 20))
        token = tmp_path / "mine"
        token.write_text(BEN)
        ran = client(server, "generate", "--raw", "--prompt", "x", "--max-tokens", "2", "--tls-ca", first.cert,
                     "--token-file", token)
        assert ran.returncode == 0, ran.stderr


def test_tokens_in_the_clear_are_for_this_machine_only(pb, model, tokens, tmp_path):
    ended = harness.run("--model", str(model), "--listen", "0.0.0.0:0", "--auth-token-file", str(tokens))
    assert ended.returncode == 2 and ended.stdout == ""
    for part in ["--auth-token-file", "0.0.0.0", "--tls-cert", "--allow-insecure-auth"]:
        assert part in ended.stderr
    with harness.Server(model, "--listen", "0.0.0.0:0", "--auth-token-file", str(tokens), "--allow-insecure-auth") as server:
        assert answers(pb, grpc.insecure_channel(server.grpc_address, options=[FRESH]), bearer(ANNA))
        # The client sends none to what is not this machine's address for sure.
        ran = client(server, "info", "--token-file", tokens, target="example.invalid:1")
        assert ran.returncode == 2
        token = tmp_path / "mine"
        token.write_text(BEN)
        ran = client(server, "info", "--token-file", token, target="example.invalid:1")
        assert ran.returncode == 2 and "--allow-insecure-auth" in ran.stderr
        ran = client(server, "info", "--token-file", token, "--allow-insecure-auth", target=server.grpc_address)
        assert ran.returncode == 0, ran.stderr


def test_a_token_file_that_cannot_be_used_is_one_line_and_exit_one(model, tmp_path):
    file = tmp_path / "tokens"
    for text, expected in [("anna tooshort", "line 1: the secret"), ("", "no token"), (ANNA, "line 1: expected"),
                           ("a b c\n", "line 1: expected"), ("anna %s\n" % ANNA * 2, "line 2: the same name")]:
        file.write_text(text)
        ended = harness.run("--model", str(model), "--auth-token-file", str(file))
        assert ended.returncode == 1 and ended.stderr.count("\n") == 1, ended.stderr
        assert str(file) in ended.stderr and expected in ended.stderr
        assert ANNA not in ended.stderr and "tooshort" not in ended.stderr
    ended = harness.run("--model", str(model), "--auth-token-file", str(tmp_path / "none"))
    assert ended.returncode == 1 and str(tmp_path / "none") in ended.stderr


# ---- Limits ----

def test_too_large_a_message_ends_its_own_call_only(pb, server):
    stub = pb.Stub(server.channel)
    stream = stub.Generate(long_request(pb, return_attention_weights=True))
    assert next(stream).HasField("started")
    with pytest.raises(grpc.RpcError) as error:
        stub.Tokenize(pb.TokenizeRequest(text="x" * (17 << 20)))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert next(stream).token.id >= 0  # on the same connection
    stream.cancel()


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def goaway(connection):
    """(error code, debug text) of the GOAWAY frame, reading on to it."""
    data = b""
    while True:
        chunk = connection.recv(1 << 16)
        data += chunk
        position = 0
        while position + 9 <= len(data):
            length = int.from_bytes(data[position:position + 3], "big")
            if position + 9 + length > len(data):
                break
            payload = data[position + 9:position + 9 + length]
            if data[position + 3] == 7:
                return int.from_bytes(payload[4:8], "big"), payload[8:]
            position += 9 + length
        assert chunk, "closed without GOAWAY"


def test_who_floods_the_server_with_pings_is_disconnected(pb, server, stub):
    host, port = server.grpc_address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=harness.STEP_SECONDS) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        connection.sendall(b"".join(frame(6, 0, 0, struct.pack(">Q", i)) for i in range(10)))
        code, text = goaway(connection)
    assert (code, text) == (0xb, b"too_many_pings")
    assert stub.GetModel(pb.GetModelRequest()).name  # others are not


# ---- When headers leave ----

RETRY = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{
    "name": [{"service": "ebbinghaus.v1.InferenceService"}],
    "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2,
                    "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"]}}]})


@pytest.mark.parametrize("method", ["Generate", "Complete"])
def test_a_call_refused_by_a_full_queue_is_retried_by_the_client_itself(pb, model, method):
    with harness.Server(model, "--max-batch", "1", "--max-queue", "1", "--drain-timeout", "0", "--slow-reader-timeout",
                        "0") as server:
        stub = pb.Stub(server.channel)
        running = stub.Generate(long_request(pb, return_attention_weights=True))
        next(running)
        queued = stub.Generate(long_request(pb, return_attention_weights=True))
        harness.wait_until(lambda: harness.status(pb, stub).requests_queued == 1, "the second to wait")
        with grpc.insecure_channel(server.grpc_address, options=[FRESH, ("grpc.service_config", RETRY)]) as channel:
            call = getattr(pb.Stub(channel), method)
            request = pb.GenerateRequest(text="x", max_new_tokens=2, ignore_eos=True)
            result = []
            if method == "Generate":
                thread = threading.Thread(target=lambda: result.append(len(list(call(request)))))
            else:
                thread = threading.Thread(target=lambda: result.append(2 + len(call(request).token_ids.ids)))
            thread.start()
            harness.wait_until(
                lambda: server.metrics()['ebbinghaus_requests_rejected_total{reason="queue_full"}'] >= 1, "a refusal")
            running.cancel()
            queued.cancel()
            thread.join(harness.STEP_SECONDS)
            assert result == [4]


def test_a_call_refused_by_a_draining_server_is_retried_at_another(pb, model):
    flags = ["--drain-timeout", "1h", "--slow-reader-timeout", "0"]
    with harness.Server(model, *flags) as leaving, harness.Server(model) as staying:
        running = pb.Stub(leaving.channel).Generate(long_request(pb, return_attention_weights=True))
        next(running)
        target = "ipv4:%s,%s" % (leaving.grpc_address, staying.grpc_address)
        with grpc.insecure_channel(target, options=[FRESH, ("grpc.service_config", RETRY)]) as channel:
            stub = pb.Stub(channel)
            for _ in range(4):  # until both are connected
                stub.GetModel(pb.GetModelRequest(), wait_for_ready=True)
            leaving.signal()
            harness.wait_until(lambda: leaving.http("/readyz")[0] == 503, "the drain to begin")
            request = pb.GenerateRequest(text="x", max_new_tokens=2, ignore_eos=True)
            for _ in range(6):
                assert len(list(stub.Generate(request))) == 4
                assert len(stub.Complete(request).token_ids.ids) == 2
        running.cancel()


def test_headers_leave_when_the_request_starts_not_when_it_comes(pb, model):
    with harness.Server(model, "--max-batch", "1", "--drain-timeout", "0", "--slow-reader-timeout", "0") as server:
        stub = pb.Stub(server.channel)
        running = stub.Generate(long_request(pb, return_attention_weights=True))
        next(running)
        waiting = stub.Generate(long_request(pb, return_attention_weights=True))
        arrived = threading.Event()

        def wait_for_headers():
            waiting.initial_metadata()
            arrived.set()
        thread = threading.Thread(target=wait_for_headers)
        thread.start()
        harness.wait_until(lambda: harness.status(pb, stub).requests_queued == 1, "the second to wait")
        for _ in range(20):  # calls that end show that nothing holds the connection up
            stub.GetModel(pb.GetModelRequest())
        assert not arrived.is_set()
        running.cancel()
        assert arrived.wait(harness.STEP_SECONDS)
        thread.join()
        waiting.cancel()


# ---- What errors tell ----

MARKER = "Marker7Zq"
QUOTING = ("{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('cannot take ' + m.role + ': ' + m.content) }}"
           "{% endif %}{% endfor %}{{ raise_exception('no ' ~ messages) }}")


@pytest.fixture(scope="module")
def quoting_model(model, tmp_path_factory):
    """One whose chat template refuses everything and quotes it."""
    folder = tmp_path_factory.mktemp("quoting") / "tiny-llama"
    shutil.copytree(model, folder)
    configuration = json.loads((folder / "tokenizer_config.json").read_text())
    configuration["chat_template"] = QUOTING
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    return folder


def bad_requests(pb):
    """Each way to be refused, with the marker in every string."""
    inputs = [dict(text=MARKER), dict(chat=pb.Chat(messages=[pb.Message(role="user", content=MARKER)])),
              dict(chat=pb.Chat(messages=[pb.Message(role=MARKER, content=MARKER + " " + MARKER)])), dict()]
    for text, _, _ in test_validation.BAD:
        for fields in inputs:
            message = pb.GenerateRequest(max_new_tokens=1, stop=[MARKER], **fields)
            text_format.Merge(text, message)
            yield message
    yield pb.GenerateRequest(text=MARKER * 100_000)
    yield pb.GenerateRequest(text=MARKER * 2_000_000)  # above the limit on messages
    yield pb.GenerateRequest(text="x", request_id=MARKER * 50)
    yield pb.GenerateRequest(text="x", stop=[MARKER * 100])
    yield pb.GenerateRequest(chat=pb.Chat(messages=[pb.Message(content=MARKER)]))
    yield pb.GenerateRequest(chat=pb.Chat(messages=[pb.Message(role=MARKER, content=MARKER * 100_000)]))


def test_no_error_and_no_log_line_quotes_a_prompt(pb, quoting_model):
    with harness.Server(quoting_model, "--log-level", "debug") as server:
        stub = pb.Stub(server.channel)
        told = []

        def refused(call, message):
            with pytest.raises(grpc.RpcError) as caught:
                answer = call(message, timeout=harness.STEP_SECONDS)
                if hasattr(answer, "__next__"):
                    list(answer)
            error = caught.value
            told.append(repr((error.details(), error.trailing_metadata(), error.debug_error_string())))

        count = 0
        for message in bad_requests(pb):
            count += 1
            refused(stub.Complete if count % 2 else stub.Generate, message)
            if message.HasField("chat"):
                refused(stub.Tokenize, pb.TokenizeRequest(chat=message.chat))
        # What is no message of ours: bytes that are no UTF-8 and no protobuf.
        raw = server.channel.unary_unary("/ebbinghaus.v1.InferenceService/Complete")
        for data in [b"\x0a\x0c" + MARKER.encode() + b"\xff\xfe\xfd", MARKER.encode() * 9]:
            refused(raw, data)
        assert count > 200
        server.signal()
        assert server.wait() == 0
        found = [text for text in told + server.read_log().splitlines() if MARKER.lower() in text.lower()]
        # A request's id is no prompt: it is there to be found in the log, as far as it is allowed to be long.
        assert [text for text in found if "id=" + MARKER not in text] == []
        assert any("cannot take ..." in text for text in told)  # the template's own words came through
