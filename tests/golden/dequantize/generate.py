"""Writes blocks.gguf: blocks of every supported tensor type, and the values that the reference package reads from them.

Run it in an environment made from requirements.txt:  python generate.py
For a type such as Q4_K the file holds `Q4_K.blocks` (in that type) and `Q4_K.values` (F32, by gguf.quants.dequantize).
The bytes of the blocks are random, so that every bit pattern of quants and sub-scales occurs; their half-precision scales
go through the edge cases (zeros of both signs, subnormals, the largest numbers) before they become random, too. Not a
number and infinity are left out of scales: the sign of a NaN is not defined.
"""

from pathlib import Path

import gguf
import numpy as np

KINDS = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
         "Q6_K": [208]}  # where in a block its half-precision scales stand
EDGE_HALVES = [0x0000, 0x8000, 0x0001, 0x8001, 0x0002, 0x03FF, 0x83FF, 0x0400, 0x8400, 0x3BFF, 0x3C00, 0xBC00, 0x3C01,
               0x7BFF, 0xFBFF, 0x211F, 0x9C01]
SMALL_BLOCKS, LARGE_BLOCKS = 128, 32  # of 32 and of 256 values


def random_halves(rng: np.random.Generator, count: int) -> np.ndarray:
    """Finite half-precision numbers, as bits."""
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    return np.where((bits >> 10) & 31 == 31, bits ^ 0x4000, bits).astype(np.uint16)


def random_blocks(rng: np.random.Generator, kind: gguf.GGMLQuantizationType, scale_offsets: list[int]) -> np.ndarray:
    """[blocks, bytes of a block] uint8"""
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    count = LARGE_BLOCKS if block_values == 256 else SMALL_BLOCKS
    blocks = rng.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    blocks[0, :], blocks[1, :] = 0, 255  # the corners of every bit field
    for place, offset in enumerate(scale_offsets):
        halves = random_halves(rng, count)
        edges = np.roll(np.array(EDGE_HALVES, dtype=np.uint16), 3 * place)  # pairs meet in different ways
        halves[:len(edges)] = edges
        blocks[:, offset:offset + 2] = halves.view(np.uint8).reshape(count, 2)
    return blocks


def plain_halves() -> np.ndarray:
    """Every sign and exponent with telling mantissas, and the infinities."""
    mantissas = [0, 1, 2, 0x155, 0x1FF, 0x200, 0x3FE, 0x3FF]
    finite = [sign << 15 | exponent << 10 | m for sign in (0, 1) for exponent in range(31) for m in mantissas]
    return np.array(finite + [0x7C00, 0xFC00], dtype="<u2")


def main() -> None:
    rng = np.random.Generator(np.random.PCG64(20240613))
    writer = gguf.GGUFWriter(Path(__file__).parent / "blocks.gguf", "fixture")

    def add(name: str, kind: gguf.GGMLQuantizationType, rows: np.ndarray) -> None:
        values = gguf.quants.dequantize(rows, kind).astype(np.float32)
        assert not np.isnan(values).any()
        writer.add_tensor(name + ".blocks", rows, raw_dtype=kind)
        writer.add_tensor(name + ".values", values)

    for name, scale_offsets in KINDS.items():
        kind = gguf.GGMLQuantizationType[name]
        with np.errstate(over="ignore"):
            add(name, kind, random_blocks(rng, kind, scale_offsets))
    halves = plain_halves()
    add("F16", gguf.GGMLQuantizationType.F16, halves.view(np.float16).reshape(-1, 2))
    bits = rng.integers(0, 1 << 16, 512, dtype=np.uint16)
    bits[(bits & 0x7F80) == 0x7F80] = 0x7F80  # infinity instead of NaN
    add("BF16", gguf.GGMLQuantizationType.BF16, bits.view(np.uint8).reshape(-1, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
