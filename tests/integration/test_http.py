"""The HTTP port under clients that mean no good, and where both ports listen."""
import concurrent.futures
import contextlib
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import threading

import grpc
import pytest

import harness

LINE = b"GET /healthz HTTP/1.1\r\n"
PROBE = LINE + b"Host: x\r\nConnection: close\r\n\r\n"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
ROOM_BYTES = 24 << 20  # what all that a test throws at the server may add to its resident memory


@pytest.fixture(scope="module")
def target(model):
    with harness.Server(model) as running:
        running.http("/metrics")
        yield running


@pytest.fixture
def steady(target):
    """The server; afterwards it has given back all connections, and its memory has not grown."""
    before = target.resources()
    yield target
    harness.wait_until(lambda: target.resources()["descriptors"] <= before["descriptors"] + 1, "connections closed")
    assert target.resources()["resident_bytes"] - before["resident_bytes"] < ROOM_BYTES
    assert target.http("/healthz")[0] == 200


def connect(server, receive_bytes=0):
    host, port = server.http_address.rsplit(":", 1)
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(harness.STEP_SECONDS)
    client.connect((host, int(port)))
    return client


def read_to_end(client):
    pieces = []
    with contextlib.suppress(ConnectionError):  # a reset is an end too
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def exchange(server, data, half_close=False):
    with connect(server) as client:
        with contextlib.suppress(OSError):  # it has heard enough, and may have closed
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        return read_to_end(client)


def assert_answers(server):
    assert exchange(server, PROBE).startswith(b"HTTP/1.1 200")


def drip(clients, data):
    """Sends it to those that still take it; who they are."""
    alive = []
    for client in clients:
        with contextlib.suppress(OSError):
            client.send(data)
            alive.append(client)
    return alive


REQUESTS = {
    "2,700 ranges": (LINE + b"Host: x\r\nConnection: close\r\nRange: bytes=" + b"0-," * 2700 + b"\r\n\r\n", b"200"),
    "ranges of nothing": (LINE + b"Host: x\r\nConnection: close\r\nRange: " + b"-," * 3000 + b"\r\n\r\n", b"200"),
    "10,000 header lines": (LINE + b"a: b\r\n" * 10_000 + b"\r\n", b"431"),
    "a header line without end": (LINE + b"A: " + b"y" * (32 << 20), b"431"),
    "a request line without end": (b"GET /" + b"y" * (32 << 20), b"4"),
    "a body without end": (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000000\r\n\r\n" + b"y" * (32 << 20), b"4"),
    "a length beyond 64 bits": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n", b"4"),
    "chunks without end": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"9\r\n123456789\r\n" * 100_000, b"405"),
    "a bad chunk size": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b"413"),
    "two lengths": (LINE + b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n", b"400"),
    "100-continue": (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", b"405"),
    "another method": (b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
    "an unknown page": (b"GET /nothing HTTP/1.0\r\n\r\n", b"404"),
    "HTTP/1.0": (b"GET /readyz HTTP/1.0\r\n\r\n", b"200"),
    "an absolute target": (b"GET http://x/readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
    "a path of 100,000 bytes": (b"GET /" + b"%41" * 33_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
    "a NUL": (LINE + b"Host: x\r\nA: \0\r\n\r\n", b"400"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)), b""),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b""),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hostile_request_is_answered_briefly_and_harms_nobody(steady, name):
    data, status = REQUESTS[name]
    answer = exchange(steady, data, half_close=True)
    assert len(answer) < 4096
    # A client that sends on and on may be reset before it has read what it was told.
    if answer or len(data) < 1 << 20:
        assert not status or answer.split(b" ", 2)[1].startswith(status), answer
    assert_answers(steady)


@pytest.mark.parametrize("count", [64, 500])
def test_probes_are_answered_beside_requests_that_trickle_in(steady, count):
    clients = [connect(steady) for _ in range(count)]
    alive = drip(clients, LINE)
    while alive:  # until all have met their deadline
        assert_answers(steady)
        alive = drip(alive, b"a: b\r\n")
    for client in clients:
        client.close()


def test_probes_are_answered_beside_sockets_that_say_nothing(steady):
    clients = [connect(steady) for _ in range(500)]
    assert_answers(steady)
    assert steady.http("/metrics")[0] == 200
    for client in clients:
        client.close()


def test_probes_are_answered_beside_clients_that_never_read(steady):
    clients = [connect(steady, 4096) for _ in range(64)]
    for client in clients:
        client.setblocking(False)
        for _ in range(20):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                client.send(SCRAPE * 500)
    assert_answers(steady)
    for client in clients:  # cut off at the deadline, though nobody asks them to go
        client.setblocking(True)
        client.settimeout(harness.STEP_SECONDS)
        read_to_end(client)
        client.close()


def test_pipelined_requests_end_at_a_bound(steady):
    client = connect(steady)
    sending = threading.Thread(target=send_all, args=(client, LINE + b"Host: x\r\n\r\n", 100_000))
    sending.start()
    answers = read_to_end(client)
    client.close()
    sending.join()
    assert 1 <= answers.count(b"HTTP/1.1 200") <= 100


def send_all(client, data, times):
    with contextlib.suppress(OSError):
        client.sendall(data * times)


def test_a_reset_at_any_moment_harms_nobody(steady):
    for said in [b"", b"GET", LINE, PROBE, SCRAPE, SCRAPE * 50, b"POST / HTTP/1.1\r\n\r\n"] * 20:
        client = connect(steady)
        client.sendall(said)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert_answers(steady)


def test_a_stream_and_probes_go_on_beside_many_scrapes(pb, steady):
    stub = pb.Stub(steady.channel)
    stop = threading.Event()

    def scrape():
        pages = 0
        with connect(steady) as client:
            while not stop.is_set():
                client.sendall(SCRAPE)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(1 << 16)
                head, body = head.split(b"\r\n\r\n", 1)
                left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(body)
                while left:
                    body = client.recv(min(left, 1 << 16))
                    left -= len(body)
                pages += 1
                if b"Connection: close" in head:
                    break
        return pages

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        scrapes = [pool.submit(scrape) for _ in range(64)]
        events = list(stub.Generate(pb.GenerateRequest(text="a", max_new_tokens=100, ignore_eos=True)))
        assert_answers(steady)
        stop.set()
        assert all(future.result() >= 1 for future in scrapes)
    assert events[-1].finished.usage.generated_tokens == 100


def test_neither_port_keeps_the_other_from_answering_when_descriptors_run_out(pb, model):
    with harness.Server(model) as server:
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        few = server.resources()["descriptors"] + 60
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (few, hard))
        for address in (server.http_address, server.grpc_address):
            host, port = address.rsplit(":", 1)
            clients = [socket.create_connection((host, int(port)), harness.STEP_SECONDS) for _ in range(200)]
            for _ in range(5):
                assert_answers(server)
            if address == server.http_address:
                assert_calls(pb, server)
            for client in clients:
                client.close()
            assert_answers(server)
            assert_calls(pb, server)


def assert_calls(pb, server):
    """A call on a connection of its own."""
    with grpc.insecure_channel(server.grpc_address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        pb.Stub(channel).GetModel(pb.GetModelRequest(), wait_for_ready=True, timeout=harness.STEP_SECONDS)


def reaches(host, port):
    """Whether a connection can be had there."""
    try:
        socket.create_connection((host, port), harness.STEP_SECONDS).close()
        return True
    except OSError:
        return False


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


ADDRESSES = [  # what is asked for, whether 127.0.0.1 reaches it, whether ::1 does
    ("127.0.0.1", True, False), ("0.0.0.0", True, False), ("[::1]", False, True), ("[::]", True, True),
    ("localhost", True, None)]


@pytest.mark.parametrize("host, ipv4, ipv6", ADDRESSES)
def test_it_listens_where_it_is_told(model, host, ipv4, ipv6):
    if not has_ipv6() and "[" in host:
        pytest.skip("this machine has no IPv6")
    with harness.Server(model, "--listen", host + ":0", "--http-listen", host + ":0") as server:
        for address in (server.grpc_address, server.http_address):
            assert address.rsplit(":", 1)[0] == host
            port = int(address.rsplit(":", 1)[1])
            assert reaches("127.0.0.1", port) == ipv4
            if has_ipv6() and ipv6 is not None:
                assert reaches("::1", port) == ipv6


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
@pytest.mark.parametrize("flag", ["--listen", "--http-listen"])
def test_an_address_that_is_not_here_is_one_line_and_exit_one(model, flag, host):
    other = "--http-listen" if flag == "--listen" else "--listen"
    ended = harness.run("--model", str(model), flag, host + ":0", other, "127.0.0.1:0", "--log-level", "error")
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.count("\n") == 1 and "cannot listen on %s:0" % host in ended.stderr, ended.stderr


# Run where IPv6 is off: starts the server as the image does and asks both ports by IPv4.
WITHOUT_IPV6 = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import harness
    with harness.Server(sys.argv[2], "--listen", "[::]:0", "--http-listen", "[::]:0") as server:
        for name in ("grpc_address", "http_address"):
            setattr(server, name, "127.0.0.1:" + getattr(server, name).rsplit(":", 1)[1])
        assert server.http("/readyz")[0] == 200
        import grpc
        channel = grpc.insecure_channel(server.grpc_address)
        grpc.channel_ready_future(channel).result(harness.STEP_SECONDS)
        channel.close()
    print("served")
"""


def run_without_ipv6(model, prefix, env):
    here = os.path.dirname(os.path.abspath(__file__))
    return subprocess.run([*prefix, sys.executable, "-c", textwrap.dedent(WITHOUT_IPV6), here, str(model)],
                          capture_output=True, text=True, timeout=harness.START_SECONDS,
                          env={**os.environ, **env})


def test_every_address_is_ipv4s_alone_where_ipv6_is_switched_off(model):
    off = ("ip link set lo up && for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f || exit 77; done; "
           'exec "$@"')
    prefix = ["unshare", "--net", "sh", "-c", off, "sh"]
    if not shutil.which("unshare") or not shutil.which("ip") or subprocess.run([*prefix, "true"], capture_output=True,
                                                                             check=False).returncode:
        pytest.skip("no network namespace of one's own to be had here")
    ended = run_without_ipv6(model, prefix, {})
    assert ended.stdout == "served\n", ended.stderr


def test_every_address_is_ipv4s_alone_where_the_kernel_has_no_ipv6(model, tmp_path):
    if not shutil.which("cc"):
        pytest.skip("no C compiler to play such a kernel with")
    (tmp_path / "kernel.c").write_text(textwrap.dedent("""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <sys/socket.h>
        int socket(int family, int type, int protocol) {
          int (*real)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
          if (family != AF_INET6) return real(family, type, protocol);
          errno = EAFNOSUPPORT;
          return -1;
        }
    """))
    library = tmp_path / "kernel.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "kernel.c"), "-ldl"], check=True)
    ended = run_without_ipv6(model, [], {"LD_PRELOAD": str(library)})
    assert ended.stdout == "served\n", ended.stderr
