#!/usr/bin/env python3
"""Writes a tiny Llama checkpoint with random weights as a Hugging Face folder: make_tiny_model.py FOLDER [--seed N]

Nothing but the standard library. The vocabulary is the 256 bytes, a few merges and four special tokens; the chat
template is ChatML. The same seed gives the same bytes.
"""
import argparse
import array
import json
import pathlib
import random
import struct
import sys

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_SIZE, FEED_FORWARD = 64, 4, 4, 2, 16, 128
CONTEXT = 8192
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
MERGES = ["t h", "th e", "i n", "e r", "a n", "o n", "r e", "Ġ the", "Ġ a", "n d", "an d", "Ġ and", "Ġ o", "Ġ w",
          "o u", "i s", "Ġ s", "a t", "e n", "Ġ c", "i t", "e s", "Ġ in", "Ġ t", "o r", "l l", "Ġ m", "in g", "e d",
          "Ġ is", "a r", "s t", "Ġ f", "Ġ p", "Ġ b", "l e", "Ġ re", "i c", "v e", "o m"]
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
            "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def byte_alphabet():
    """How byte-level BPE writes each byte as one printable character."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    alphabet = {byte: chr(byte) for byte in printable}
    shifted = [byte for byte in range(256) if byte not in alphabet]
    alphabet.update({byte: chr(256 + i) for i, byte in enumerate(shifted)})
    return [alphabet[byte] for byte in range(256)]


def tokenizer():
    vocabulary = byte_alphabet()
    for merge in MERGES:
        vocabulary.append(merge.replace(" ", ""))
    first_special = len(vocabulary)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return first_special + len(SPECIAL), {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": first_special + i, "content": token, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True} for i, token in enumerate(SPECIAL)],
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: i for i, token in enumerate(vocabulary)}, "merges": MERGES}}


def tensors(vocabulary, rng):
    """Names, shapes and float32 data in the order of the file."""
    def normal(shape, scale):
        count = 1
        for extent in shape:
            count *= extent
        return shape, array.array("f", (rng.gauss(0, scale) for _ in range(count)))

    ones = [HIDDEN], array.array("f", [1.0] * HIDDEN)
    yield "model.embed_tokens.weight", *normal([vocabulary, HIDDEN], 1.0)
    for layer in range(LAYERS):
        p = "model.layers.%d." % layer
        yield p + "input_layernorm.weight", *ones
        yield p + "self_attn.q_proj.weight", *normal([HEADS * HEAD_SIZE, HIDDEN], 0.2)
        yield p + "self_attn.k_proj.weight", *normal([KV_HEADS * HEAD_SIZE, HIDDEN], 0.2)
        yield p + "self_attn.v_proj.weight", *normal([KV_HEADS * HEAD_SIZE, HIDDEN], 0.2)
        yield p + "self_attn.o_proj.weight", *normal([HIDDEN, HEADS * HEAD_SIZE], 0.2)
        yield p + "post_attention_layernorm.weight", *ones
        yield p + "mlp.gate_proj.weight", *normal([FEED_FORWARD, HIDDEN], 0.2)
        yield p + "mlp.up_proj.weight", *normal([FEED_FORWARD, HIDDEN], 0.2)
        yield p + "mlp.down_proj.weight", *normal([HIDDEN, FEED_FORWARD], 0.2)
    yield "model.norm.weight", *ones
    yield "lm_head.weight", *normal([vocabulary, HIDDEN], 0.25)


def write_safetensors(path, named):
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, shape, data in named:
        if sys.byteorder == "big":
            data.byteswap()
        blob = data.tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def make(folder, seed=1):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, definition = tokenizer()
    end_of_text, end_of_turn = vocabulary - 4, vocabulary - 2
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
              "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_SIZE,
              "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
              "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False, "torch_dtype": "float32",
              "vocab_size": vocabulary, "eos_token_id": end_of_text, "bos_token_id": end_of_text}
    write = lambda name, value: (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    write("config.json", config)
    write("generation_config.json", {"eos_token_id": [end_of_turn, end_of_text]})
    write("tokenizer.json", definition)
    write("tokenizer_config.json", {"chat_template": TEMPLATE, "eos_token": "<|im_end|>", "add_bos_token": False,
                                    "tokenizer_class": "PreTrainedTokenizerFast"})
    write_safetensors(folder / "model.safetensors", tensors(vocabulary, random.Random(seed)))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.seed)
