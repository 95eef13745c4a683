"""Opens and resets gRPC streams frame by frame: what no gRPC library lets one do at will.

A library's cancelled call may never reach the wire; here every stream is really opened, with its whole request, and then
reset, as in the attack that is known as rapid reset. Source of the frames: RFC 9113; of the headers' encoding: RFC 7541
(literals without indexing).
"""
import asyncio
import socket
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
CANCEL = 8
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def literal(text):
    data = text.encode()
    assert len(data) < 127  # lengths of one byte
    return bytes([len(data)]) + data


class Connection:
    """One HTTP/2 connection. Use from one task."""

    def __init__(self, reader, writer, address, window=None, grants=True, method="Generate"):
        self.reader, self.writer, self.grants = reader, writer, grants
        headers = [(":method", "POST"), (":scheme", "http"), (":path", "/ebbinghaus.v1.InferenceService/" + method),
                   (":authority", address), ("te", "trailers"), ("content-type", "application/grpc")]
        self.headers = b"".join(b"\0" + literal(name) + literal(value) for name, value in headers)
        self.next_stream = 1
        self.open = True
        self.ended = set()  # streams that the server has ended
        self.news = asyncio.Event()
        settings = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        self.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings))
        self.listening = asyncio.create_task(self.listen())

    @classmethod
    async def connect(cls, address, source=None, **options):
        """`window`: how many bytes of a stream the server may send before grant(); default 65,535. `grants`: whether the
        connection takes what its streams have taken, or 65,535 bytes in all. `source`: an address of this machine."""
        host, port = address.rsplit(":", 1)
        local = (source, 0) if source else None
        return cls(*await asyncio.open_connection(host, int(port), local_addr=local), address, **options)

    async def listen(self):
        """Answers what the protocol wants answered, drops the rest."""
        try:
            while True:
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind == RST_STREAM or kind in (DATA, HEADERS) and flags & END_STREAM:
                    self.ended.add(stream)
                    self.news.set()
                if kind == SETTINGS and not flags & ACK:
                    self.writer.write(frame(SETTINGS, ACK, 0))
                elif kind == PING and not flags & ACK:
                    self.writer.write(frame(PING, ACK, 0, payload))
                elif kind == DATA and payload and self.grants:
                    self.writer.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload))))
                elif kind == GOAWAY:
                    self.open = False
                    self.news.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.open = False
            self.news.set()

    async def has_ended(self, streams):
        """Returns when the server has ended these, or the connection."""
        while self.open and not streams <= self.ended:
            self.news.clear()
            await self.news.wait()

    def begin(self, message):
        """Opens a stream with the whole request; its number."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.writer.write(frame(HEADERS, END_HEADERS, stream, self.headers) +
                          frame(DATA, END_STREAM, stream, b"\0" + struct.pack(">I", len(message)) + message))
        return stream

    def grant(self, stream, size):
        self.writer.write(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size)))

    def reset(self, stream):
        self.writer.write(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

    async def close(self, abruptly):
        """Abruptly: with a TCP reset, as of a machine that lost its power and came back."""
        if abruptly and not self.writer.is_closing():
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()
        self.listening.cancel()
        try:
            await self.listening
        except asyncio.CancelledError:
            pass
