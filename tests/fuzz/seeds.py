#!/usr/bin/env python3
"""Writes what the harnesses start from: seeds.py FOLDER makes FOLDER/HARNESS/NAME.

Most come from the golden files, cut down, since a fuzzer is as fast as its inputs are small; the rest is made here. The form of
each harness's input is at the top of its source.
"""
import json
import pathlib
import random
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
SOME_TEXT = "The curve falls fast at first, then slowly; wörd 3,50 €.\n  def f(x):\n\treturn x<s>  "


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def models():
    return sorted(path.parent for path in (GOLDEN / "models").glob("*/config.json"))


def safetensors():
    for shape, kind, size in [([2, 3], "F32", 24), ([4], "BF16", 8), ([1, 1], "F16", 2), ([3], "I8", 3)]:
        header = {"a": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}, "__metadata__": {"format": "pt"},
                  "b": {"dtype": "F32", "shape": [2], "data_offsets": [size, size + 8]}}
        yield compact(header).encode() + b"\0" + bytes(size + 8)
    text = compact({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    yield struct.pack("<Q", len(text)) + text + bytes(4)
    yield b"\xff" * 16


def config():
    for folder in models():
        yield (compact(json.loads((folder / "config.json").read_text())) + "\0"
               + compact(json.loads((folder / "generation_config.json").read_text()))).encode()


def small_tokenizer(definition, tokens=96):
    """The same steps over the first tokens only."""
    definition = json.loads(json.dumps(definition))
    model = definition["model"]
    if isinstance(model.get("vocab"), dict):
        kept = [t for t, i in sorted(model["vocab"].items(), key=lambda item: item[1])][:tokens]
        model["vocab"] = {token: i for i, token in enumerate(kept)}
        pair = lambda merge: merge if isinstance(merge, list) else merge.split(" ")
        model["merges"] = [m for m in model.get("merges", []) if all(p in model["vocab"] for p in (*pair(m), "".join(pair(m))))]
    size = len(model["vocab"])
    for added in definition.get("added_tokens") or []:
        if added["content"] in model["vocab"]:
            added["id"] = model["vocab"][added["content"]]
        else:
            added["id"], size = size, size + 1
    names = {added["content"]: added["id"] for added in definition.get("added_tokens") or []}
    for processor in [definition.get("post_processor") or {}, *((definition.get("post_processor") or {}).get("processors") or [])]:
        for token in (processor.get("special_tokens") or {}).values():
            token["ids"] = [names.get(t, 0) for t in token["tokens"]]
    return definition


def tokenizer_json():
    for folder in models():
        yield (compact(json.loads((folder / "tokenizer.json").read_text())) + "\0" + SOME_TEXT).encode()
    for path in sorted((GOLDEN / "tokenizer/fixtures").glob("*.json")):
        fixture = json.loads(path.read_text())
        if isinstance(fixture, dict) and fixture.get("kind") == "json":
            yield (compact(small_tokenizer(fixture["definition"])) + "\0" + SOME_TEXT).encode()


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value):
    """Type and payload."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_string(value)
    elements = [gguf_value(element) for element in value]
    return struct.pack("<I", 9) + elements[0][:4] + struct.pack("<Q", len(value)) + b"".join(e[4:] for e in elements)


def gguf_file(values, tensors):
    """tensors: {name: shape, innermost first}, all F32."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(gguf_string(key) + gguf_value(value) for key, value in values.items())
    data = b""
    for name, shape in tensors.items():
        head += gguf_string(name) + struct.pack("<I%dQIQ" % len(shape), len(shape), *shape, 0, len(data))
        count = 1
        for extent in shape:
            count *= extent
        data += bytes(count * 4)
        data += bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + data


def gguf():
    h, f, d = 4, 4, 2  # hidden, feed-forward, head size; two query heads, one kv head
    layer = {"attn_norm.weight": [h], "ffn_norm.weight": [h], "attn_q.weight": [h, 2 * d], "attn_k.weight": [h, d],
             "attn_v.weight": [h, d], "attn_output.weight": [2 * d, h], "ffn_gate.weight": [h, f], "ffn_up.weight": [h, f],
             "ffn_down.weight": [f, h]}
    sentencepiece = {"tokens": ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "<0x41>"], "scores": [0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, 0.0],
                     "token_type": [2, 3, 3, 1, 1, 1, 1, 6], "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0, "model": "llama"}
    byte_level = {"tokens": ["a", "b", "Ġ", "ab", "<s>", "Ġab", "1", "."], "merges": ["a b", "Ġ ab"], "token_type": [1, 1, 1, 1, 3, 1, 1, 1],
                  "bos_token_id": 4, "eos_token_id": 4, "model": "gpt2", "pre": "smollm", "add_bos_token": True}
    for architecture, vocabulary in [("llama", sentencepiece), ("llama", byte_level), ("qwen2", byte_level), ("mistral", sentencepiece)]:
        values = {"general.architecture": architecture}
        for key, value in {"block_count": 1, "context_length": 32, "embedding_length": h, "feed_forward_length": f,
                           "attention.head_count": 2, "attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-5,
                           "rope.freq_base": 10000.0}.items():
            values["%s.%s" % (architecture, key)] = value
        for key, value in vocabulary.items():
            values["tokenizer.ggml." + key] = value
        values["tokenizer.chat_template"] = "{% for m in messages %}{{ m.content }}{% endfor %}"
        tensors = {"token_embd.weight": [h, 8], "output_norm.weight": [h]}
        tensors.update({"blk.0." + name: shape for name, shape in layer.items()})
        if architecture == "qwen2":
            tensors.update({"blk.0.attn_q.bias": [2 * d], "blk.0.attn_k.bias": [d], "blk.0.attn_v.bias": [d]})
        yield gguf_file(values, tensors)


def folder():
    tokenizer = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "added_tokens": [],
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "decoder": {"type": "ByteLevel"}}
    config = {"model_type": "llama", "hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1,
              "num_key_value_heads": 1, "vocab_size": 3, "max_position_embeddings": 8, "tie_word_embeddings": True, "eos_token_id": 2}
    files = {"config.json": config, "generation_config.json": {"eos_token_id": [2]}, "tokenizer.json": tokenizer,
             "tokenizer_config.json": {"bos_token": "a", "eos_token": {"content": "b"}, "chat_template": "{{ bos_token }}"}}
    shapes = {"model.embed_tokens.weight": [3, 2], "model.norm.weight": [2]}
    layer = "model.layers.0."
    shapes.update({layer + norm + ".weight": [2] for norm in ("input_layernorm", "post_attention_layernorm")})
    shapes.update({layer + "self_attn.%s_proj.weight" % part: [2, 2] for part in "qkvo"})
    shapes.update({layer + "mlp.%s_proj.weight" % part: [2, 2] for part in ("gate", "up", "down")})

    def header(names):
        entries, end = {}, 0
        for name in names:
            size = 4 * shapes[name][0] * (shapes[name] + [1])[1]
            entries[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [end, end + size]}
            end += size
        return entries

    names = list(shapes)
    yield compact({**files, "model.safetensors": header(names)}).encode()
    parts = {"model-0000%d-of-00002.safetensors" % (i + 1): names[i::2] for i in range(2)}
    index = {"metadata": {}, "weight_map": {name: part for part, held in parts.items() for name in held}}
    yield compact({**files, "model.safetensors.index.json": index, "chat_template.jinja": "{{ messages[0].content }}",
                   **{part: header(held) for part, held in parts.items()}}).encode()


def jinja():
    for folder in models():
        template = json.loads((folder / "tokenizer_config.json").read_text()).get("chat_template")
        if isinstance(template, str):
            yield template.encode() + b'\0{"n": 2}'
    for row in json.loads((GOLDEN / "chat_template/constructs.json").read_text())["rows"]:
        yield row[0].encode()


def configuration():
    yield b"model: /m\nmax-batch = 4\nlog-format: json\ndrain-timeout = 5s\n# a comment\nkv-memory: 1GiB\n"
    yield b"model = \"a b\"\nlisten = [::1]:0\n\0--max-queue\n7\n--log-prompts\n--prefix-cache=off\0EBBINGHAUS_THREADS=2\n"
    yield b"\0--model\nx\n--tls-cert\na\n--tls-key\nb\0EBBINGHAUS_DEFAULT_MODE=soft_delete\nEBBINGHAUS_MODEL=y"


def tokens():
    yield b"# names and secrets\nalice 0123456789abcdef\nbob\tfedcba9876543210\n\x000123456789abcdef"
    yield b"a.b-c_d !\"#$%&'()*+,-./:;<=>?@\n\0" + b"x" * 20


def client():
    yield "preset=chat,time_step=0.1,scope=per_layer,pinned=0-16,pinned=20-30,sink_tokens=4\0A line of text, 漢字 and \u0301 \u200d emoji 👩\u200d🚀\n\tmore".encode()
    yield "soft_floor=0.5,soft_form=kv_scale,prompt_observation=window,prompt_window_tokens=3\0\x1b[2J\x9b31m \x80\xff".encode("utf-8", "surrogateescape")


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def request():
    field = lambda number, payload: varint(number << 3 | 2) + varint(len(payload)) + payload
    yield b"\0" + field(1, b"Hello")
    yield b"\0" + field(2, field(1, b"\1\2\3"))
    yield b"\0" + field(3, field(1, field(1, b"user") + field(2, b"Why?")))
    yield from noise(1, b"\1")


def wire():
    for seed in request():
        yield seed
    number = lambda n, value: varint(n << 3) + varint(value)
    inner = varint(1 << 3 | 2) + varint(3) + b"\1\2\3"
    yield b"\3" + inner + number(1, 300)
    yield b"\2" + varint(1 << 3 | 2) + varint(5) + b"Hello" + number(3, 1)


def http():
    yield b"\0GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    yield b"\7GET /events HTTP/1.1\r\nHost: a\r\n\r\n"
    yield b"\1GET http://a/throws?x=1 HTTP/1.0\r\n\r\n"
    yield b"\0POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"
    yield b"\0GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1100


def noise(count, prefix=b"", sizes=(40, 200, 600)):
    generator = random.Random(1)
    for size in sizes:
        for _ in range(count):
            yield prefix + bytes(generator.randrange(256) for _ in range(size))


SEEDS = {"safetensors": safetensors, "config": config, "tokenizer_json": tokenizer_json, "gguf": gguf, "folder": folder, "jinja": jinja,
         "configuration": configuration, "tokens": tokens, "client": client, "request": request, "http": http, "wire": wire}


def main():
    folder = pathlib.Path(sys.argv[1])
    for source in sorted((ROOT / "tests/fuzz").glob("*_fuzz.cc")):
        name = source.name[:-len("_fuzz.cc")]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(SEEDS.get(name, lambda: noise(3))()):
            (folder / name / ("seed-%04d" % i)).write_bytes(seed)


if __name__ == "__main__":
    main()
