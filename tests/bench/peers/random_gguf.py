#!/usr/bin/env python3
"""Writes a GGUF file with random weights in the shape of Qwen2.5-0.5B, which every engine of the comparison reads.

  random_gguf.py OUT.gguf TYPE [EMBEDDING_TYPE]      types: bf16, q8_0, q4_0

As tests/bench/random_checkpoint.cc, but on disk and with a vocabulary, without which other engines refuse a file. What a
model of it writes is noise. Source of the format: the GGUF specification and block layouts of the GGML project.
"""
import struct
import sys

import numpy as np

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_SIZE, FEED_FORWARD, VOCABULARY = 24, 896, 14, 2, 64, 4864, 151936
CONTEXT = 32768
ALIGNMENT = 32
POOL_BLOCKS = 1 << 17  # of 32 values; tensors are cut from them again and again
SCALE = 0.02           # of trained weights of this size

# name: (number in the file, bytes of 32 values, `general.file_type`)
TYPES = {"f32": (0, 128, 0), "bf16": (30, 64, 32), "q8_0": (8, 34, 7), "q4_0": (2, 18, 2)}


def encode(values, kind):
    """[blocks, 32] fp32 -> [blocks, bytes] as stored."""
    if kind == "f32":
        return values.view(np.uint8)
    if kind == "bf16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    rows = np.arange(len(values))
    extreme = values[rows, np.abs(values).argmax(axis=1)]
    step = (extreme / (-8 if kind == "q4_0" else 127)).astype(np.float16)
    codes = values / step.astype(np.float32)[:, None]
    if kind == "q4_0":
        codes = np.clip(np.rint(codes) + 8, 0, 15).astype(np.uint8)
        codes = codes[:, :16] | codes[:, 16:] << 4
    else:
        codes = np.clip(np.rint(codes), -127, 127).astype(np.int8).view(np.uint8)
    return np.concatenate([step[:, None].view(np.uint8), codes], axis=1)


class Weights:
    """Random bytes of any length in each type."""

    def __init__(self):
        self.random = np.random.default_rng(1)
        values = self.random.standard_normal((POOL_BLOCKS, 32), dtype=np.float32) * SCALE
        self.values = np.where(np.abs(values) < 1e-4, np.float32(1e-4), values)  # no subnormal halves
        self.encoded = {}

    def pieces(self, kind, blocks):
        if kind not in self.encoded:
            self.encoded[kind] = np.ascontiguousarray(encode(self.values, kind))
        while blocks > 0:
            first = int(self.random.integers(POOL_BLOCKS))
            piece = self.encoded[kind][first:first + blocks]
            blocks -= len(piece)
            yield piece.tobytes()


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def field(key, value):
    """A metadata entry: str, int (uint32), float (float32), or a list of str or int (int32)."""
    if isinstance(value, list):
        strings = isinstance(value[0], str)
        items = b"".join(map(text, value)) if strings else struct.pack("<%di" % len(value), *value)
        return text(key) + struct.pack("<IIQ", 9, 8 if strings else 5, len(value)) + items
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    return text(key) + struct.pack("<II", 4, value)


def byte_characters():
    """The printable characters that stand for the 256 bytes in byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)]


def metadata(kind):
    characters = byte_characters()
    pairs = [a + " " + b for a, b in ("th", "he", "in", "er")]
    tokens = characters + [pair.replace(" ", "") for pair in pairs]
    tokens += ["token%d" % i for i in range(len(tokens), VOCABULARY - 1)] + ["<|endoftext|>"]
    control, normal = 3, 1
    return {
        "general.architecture": "qwen2",
        "general.name": "random Qwen2.5-0.5B " + kind,
        "general.file_type": TYPES[kind][2],
        "qwen2.block_count": LAYERS,
        "qwen2.context_length": CONTEXT,
        "qwen2.embedding_length": HIDDEN,
        "qwen2.feed_forward_length": FEED_FORWARD,
        "qwen2.attention.head_count": HEADS,
        "qwen2.attention.head_count_kv": KV_HEADS,
        "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
        "qwen2.rope.freq_base": 1e6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [normal] * (VOCABULARY - 1) + [control],
        "tokenizer.ggml.merges": pairs,
        "tokenizer.ggml.bos_token_id": VOCABULARY - 1,
        "tokenizer.ggml.eos_token_id": VOCABULARY - 1,
    }


def tensors(kind, embedding_kind):
    """(name, type, extents with the fastest first) in the order of the file."""
    queries, keys = HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE
    yield "token_embd.weight", embedding_kind, (HIDDEN, VOCABULARY)
    yield "output_norm.weight", "f32", (HIDDEN,)
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            yield "blk.%d.%s.weight" % (layer, name), "f32", (HIDDEN,)
        for name, rows in (("attn_q", queries), ("attn_k", keys), ("attn_v", keys)):
            yield "blk.%d.%s.weight" % (layer, name), kind, (HIDDEN, rows)
            yield "blk.%d.%s.bias" % (layer, name), "f32", (rows,)
        yield "blk.%d.attn_output.weight" % layer, kind, (queries, HIDDEN)
        yield "blk.%d.ffn_gate.weight" % layer, kind, (HIDDEN, FEED_FORWARD)
        yield "blk.%d.ffn_up.weight" % layer, kind, (HIDDEN, FEED_FORWARD)
        yield "blk.%d.ffn_down.weight" % layer, kind, (FEED_FORWARD, HIDDEN)


def main():
    path, kind = sys.argv[1:3]
    listed = list(tensors(kind, sys.argv[3] if len(sys.argv) > 3 else kind))
    fields = metadata(kind)
    weights = Weights()
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(fields)))
        for key, value in fields.items():
            file.write(field(key, value))
        offset = 0
        for name, tensor_kind, extents in listed:
            number, block_bytes, _ = TYPES[tensor_kind]
            file.write(text(name) + struct.pack("<I%dQIQ" % len(extents), len(extents), *extents, number, offset))
            offset += int(np.prod(extents)) // 32 * block_bytes
            offset += -offset % ALIGNMENT
        for name, tensor_kind, extents in listed:
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            if name.endswith("norm.weight"):
                file.write(np.ones(extents, np.float32).tobytes())
            else:
                file.writelines(weights.pieces(tensor_kind, int(np.prod(extents)) // 32))
        file.write(b"\0" * (-file.tell() % ALIGNMENT))


if __name__ == "__main__":
    main()
