"""What clients that mean no good do, one act per call: for the soak, and for tests/bench/hostile_cost.py.

Each method of Hostile is one act against a server. It returns the name of what came of it, or lets grpc.aio.AioRpcError out.
"""
import asyncio
import contextlib

import grpc
import grpc.aio

import http2

SERVICE = "/ebbinghaus.v1.InferenceService/"
READER_SECONDS = 60  # for the server to be rid of a reader: many times its --slow-reader-timeout in the programs here
NAN, INF = float("nan"), float("inf")
TINY, HUGE = 1e-46, 1e38  # below fp32's smallest, and near its largest
EDGES = [0.0, -0.0, TINY, -TINY, 1e-38, 1e-7, 0.5, 1.0, 2.0, -2.0, 100.0, HUGE, -HUGE, 1e300, NAN, INF, -INF]


def reals(message):
    """The names of a message's real fields."""
    return [field.name for field in message.DESCRIPTOR.fields if field.cpp_type == field.CPPTYPE_DOUBLE]


def host_port(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


class Hostile:
    def __init__(self, pb, grpc_address, http_address, rng, prompt_tokens=400, new_tokens=300):
        self.pb, self.grpc_address, self.http_address, self.rng = pb, grpc_address, http_address, rng
        self.prompt_tokens, self.new_tokens = prompt_tokens, new_tokens
        self.bytes = {}  # bodies that are large, made once
        self.channel = grpc.aio.insecure_channel(grpc_address, options=[
            ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)])
        self.stub = pb.Stub(self.channel)

    async def close(self):
        await self.channel.close()

    def body(self, name, make):
        if name not in self.bytes:
            self.bytes[name] = make()
        return self.bytes[name]

    def request(self, tokens=None, **fields):
        message = self.pb.GenerateRequest(max_new_tokens=tokens or self.new_tokens, ignore_eos=True, **fields)
        message.token_ids.ids.extend(self.rng.randrange(3, 200) for _ in range(self.prompt_tokens))
        return message

    def bulky(self, tokens=None):
        """One whose answer is large."""
        message = self.request(tokens, return_attention_weights=True,
                               generation_mode=self.pb.GENERATION_MODE_SPARSE_ATTENTION)
        message.return_token_weights = message.return_forget_events = True
        message.memory_every_n_tokens = 1
        message.attention.top_k = 0
        return message

    async def read(self, message):
        async for _ in self.stub.Generate(message):
            pass

    # Bodies.

    async def compressed(self):
        await self.stub.Tokenize(self.pb.TokenizeRequest(text="a" * self.rng.randrange(20_000_000)),
                                 compression=self.rng.choice([grpc.Compression.Gzip, grpc.Compression.Deflate]))

    async def too_large(self):
        await self.channel.unary_unary(SERVICE + self.rng.choice(["Tokenize", "Complete", "GetModel"]))(
            self.body("large", lambda: self.pb.TokenizeRequest(text="a" * 30_000_000).SerializeToString()))

    async def tiny_parts(self):
        """As many parts as fit, of as few bytes as can be."""
        name = self.rng.choice(["stop", "pinned", "messages", "stop_token_ids", "logit_bias"])

        def make():
            request = self.pb.GenerateRequest()
            if name == "stop":
                request.stop.extend([""] * 100_000)
            elif name == "pinned":
                request.memory.pinned.extend([self.pb.TokenRange()] * 100_000)
            elif name == "messages":
                request.chat.messages.extend([self.pb.Message()] * 100_000)
            elif name == "stop_token_ids":
                request.stop_token_ids.extend([1] * 200_000)
            else:
                for i in range(40_000):
                    request.sampling.logit_bias[i] = 0
            return request.SerializeToString()
        await self.channel.unary_unary(SERVICE + "Complete")(self.body(name, make))

    async def many_ids(self):
        count = self.rng.choice([1000, 8192, 8193, 4_000_000])
        await self.channel.unary_unary(SERVICE + "Detokenize")(self.body(
            "ids %d" % count, lambda: self.pb.DetokenizeRequest(ids=[70] * count).SerializeToString()))

    async def heavy_texts(self):
        size = self.rng.choice([8000, 30_000, 200_000, 2_600_000])
        text = self.rng.choice(["a", "the and ing ", "wörld "])
        await self.stub.Tokenize(self.pb.TokenizeRequest(text=text * (size // len(text))))

    async def many_ranges(self):
        """At the limit of pinned ranges, in the worst order, or beyond it."""
        count = self.rng.choice([1024, 1025, 100_000])
        message = self.request(20, generation_mode=self.pb.GENERATION_MODE_SPARSE_ATTENTION)
        message.memory.pinned.extend(self.pb.TokenRange(begin=3 * i, end=3 * i + 1) for i in reversed(range(count)))
        await self.stub.Complete(message)

    async def much_metadata(self):
        """Above 64 KiB gRPC 1.51 closes the connection: on one of its own."""
        async with grpc.aio.insecure_channel(self.grpc_address, options=[
                ("grpc.use_local_subchannel_pool", 1), ("grpc.max_metadata_size", 1 << 20)]) as own:
            metadata = [("cookie", "x" * self.rng.randrange(120_000))]
            if self.rng.random() < 0.3:
                metadata = [("x-%d" % i, "y") for i in range(self.rng.randrange(2000))]
            await self.pb.Stub(own).GetModel(self.pb.GetModelRequest(), metadata=metadata)

    # Values.

    async def extreme_values(self):
        rng = self.rng
        message = self.request(rng.randint(1, 30), generation_mode=rng.choice([0, 1, 2, 3]))
        for _ in range(rng.choice([0, 1, 1, 2])):
            part = message.memory if message.generation_mode > 1 and rng.random() < 0.5 else message.sampling
            setattr(part, rng.choice(reals(part)), rng.choice(EDGES))
        if rng.random() < 0.5:
            for i in rng.sample(range(300), 30):
                message.sampling.logit_bias[i] = rng.choice([100, -100, 0, TINY])
        if rng.random() < 0.1:
            message.sampling.logit_bias[5] = rng.choice(EDGES)
        if rng.random() < 0.3:
            message.sampling.top_k = rng.choice([0, 1, 300, 301, (1 << 31) - 1])
        if rng.random() < 0.3:
            message.sampling.seed = rng.choice([0, (1 << 63) - 1])
        await self.read(message)

    async def costly_reports(self):
        """All reports for every token, read as they come."""
        await self.read(self.bulky())

    # Readers.

    async def until_ended(self, connection, streams):
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(connection.has_ended(streams), READER_SECONDS)
            return "ended"
        return "open"

    async def dead_reader(self):
        """Stops to read at any phase: before the first byte, in the middle, at the end, of a stream or a whole connection."""
        phase = self.rng.choice(["from the start", "in the middle", "the connection", "at the end", "whole answer"])
        window = {"from the start": 0, "in the middle": self.rng.choice([50, 400, 20_000])}.get(phase)
        ends = phase in ("at the end", "whole answer")
        connection = await http2.Connection.connect(
            self.grpc_address, window=0 if ends else window, grants=phase == "in the middle",
            method="Complete" if phase == "whole answer" else "Generate")
        try:
            message = self.bulky(1 if ends else None).SerializeToString()
            streams = {connection.begin(message) for _ in range(self.rng.randint(1, 3))}
            return await self.until_ended(connection, streams)
        finally:
            await connection.close(abruptly=self.rng.random() < 0.5)

    async def trickling_reader(self):
        """Takes some bytes now and then."""
        connection = await http2.Connection.connect(self.grpc_address, window=400)
        try:
            stream = connection.begin(self.bulky().SerializeToString())

            async def grant():
                while connection.open:
                    await asyncio.sleep(0.4)
                    connection.grant(stream, self.rng.randrange(1, 4000))
            granting = asyncio.create_task(grant())
            await asyncio.sleep(self.rng.uniform(0.5, 5))
            granting.cancel()
            return await self.until_ended(connection, {stream})
        finally:
            await connection.close(abruptly=self.rng.random() < 0.5)

    async def newcomer(self):
        """A client nobody has seen yet, with an address of its own."""
        source = "127.%d.%d.%d" % tuple(self.rng.randrange(1, 255) for _ in range(3))
        connection = await http2.Connection.connect(self.grpc_address, source=source)
        try:
            return await self.until_ended(connection, {connection.begin(self.request(5).SerializeToString())})
        finally:
            await connection.close(abruptly=False)

    # The HTTP port.

    async def trickled_http(self):
        """Requests that never end, on many sockets."""
        async def one(first, more):
            writer = None
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*host_port(self.http_address))
                writer.write(first)
                while not reader.at_eof():  # the server ends it
                    writer.write(more)
                    await writer.drain()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(reader.read(1 << 16), 0.2)
            if writer:
                writer.close()
        line = b"GET /healthz HTTP/1.1\r\n"
        what = self.rng.choice([(line, b"a: b\r\n"), (line + b"A: ", b"y" * 1000), (b"G", b"E"),
                                (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")])
        try:
            await asyncio.wait_for(asyncio.gather(*(one(*what) for _ in range(16))), READER_SECONDS)
            return "ended"
        except asyncio.TimeoutError:
            return "open"

    async def many_scrapes(self):
        """Sixteen at once, some with a range of everything many times over."""
        async def one():
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*host_port(self.http_address))
                ranges = b"Range: bytes=" + b"0-," * 2000 + b"\r\n" if self.rng.random() < 0.2 else b""
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + ranges + b"\r\n")
                answer = await reader.read()
                writer.close()
                return answer.split(b" ", 2)[1].decode() if answer else "closed"
            return "closed"
        ended = await asyncio.gather(*(one() for _ in range(16)))
        return "ended" if set(ended) <= {"200", "503", "429", "closed"} else " ".join(sorted(set(ended)))
