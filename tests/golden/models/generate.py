"""Writes the tiny random checkpoints of this folder and the logits the reference library computes for them.

Run it in an environment made from requirements.txt:  python generate.py
Everything is a pure function of the seeds below. README.md describes the files.
"""

import argparse
import dataclasses
import json
import shutil
import zlib
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer

import tokenizers_tiny

HERE = Path(__file__).parent
PROMPT_LENGTHS = (1, 2, 7, 33, 64, 200)
ALL_ROWS_LENGTH = 33
GREEDY_LENGTH = 7
GREEDY_TOKENS = 20
# Below this gap between the best two logits a greedy continuation is no fair test of another implementation.
GREEDY_MARGIN = 5e-3

CHATML_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\nYou remember what matters.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""

BRACKET_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{ '(' + message['content'] | trim + ')' }}
{%- elif message['role'] == 'user' -%}{{ 'Q: ' + message['content'] | trim + ' A:' }}
{%- elif message['role'] == 'assistant' -%}{{ ' ' + message['content'] | trim + eos_token }}
{%- else -%}{{ raise_exception('unknown role ' + message['role']) }}
{%- endif -%}
{%- endfor -%}"""

LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}

SHAPE = {"head_dim": 16, "num_attention_heads": 4, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
         "hidden_act": "silu", "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True}

# The config.json fields of each architecture. "v5" marks the ones written in the way transformers 5 writes them
# (rope_parameters, dtype); the others are written as older releases did (rope_theta, rope_scaling, torch_dtype).
CONFIGS = {
    "qwen2": {"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3,
              "num_key_value_heads": 2, "vocab_size": 320, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
              "rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": 512, "max_window_layers": 3},
    "llama": {"model_type": "llama", "hidden_size": 48, "intermediate_size": 48, "num_hidden_layers": 4,
              "num_key_value_heads": 1, "vocab_size": 352, "tie_word_embeddings": False, "rope_theta": 10000.0,
              "rope_scaling": LLAMA3_ROPE, "attention_bias": False, "mlp_bias": False},
    "llama-gqa": {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3,
                  "num_key_value_heads": 2, "vocab_size": 320, "tie_word_embeddings": True,
                  "rope_theta": 100000.0, "rope_scaling": None, "attention_bias": False, "mlp_bias": False},
    "mistral": {"model_type": "mistral", "hidden_size": 48, "intermediate_size": 32, "num_hidden_layers": 5,
                "num_key_value_heads": 1, "vocab_size": 352, "tie_word_embeddings": False,
                "rope_theta": 10000.0, "sliding_window": 256, "v5": True},
    "qwen3": {"model_type": "qwen3", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4,
              "num_key_value_heads": 2, "vocab_size": 320, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
              "rope_theta": 1000000.0, "attention_bias": False, "use_sliding_window": False, "sliding_window": None,
              "max_window_layers": 4, "v5": True},
}
CLASSES = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
           "qwen3": "Qwen3ForCausalLM"}
FAMILY = {"qwen2": "qwen", "qwen3": "qwen", "llama-gqa": "smollm", "llama": "sentencepiece",
          "mistral": "sentencepiece"}
WEIGHT_SEEDS = {"qwen2": 101, "llama": 102, "llama-gqa": 103, "mistral": 104, "qwen3": 105}


@dataclasses.dataclass
class Variant:
    """A checkpoint on disk: whose weights, how stored."""

    base: str
    dtype: torch.dtype = torch.float32
    shards: int = 1
    v5: bool | None = None  # overrides the config's way of writing config.json


VARIANTS = {name: Variant(name) for name in CONFIGS} | {
    "qwen2-sharded": Variant("qwen2", shards=2),
    "qwen2-bf16": Variant("qwen2", dtype=torch.bfloat16),
    "llama-f16": Variant("llama", dtype=torch.float16, v5=True),
}
GGUF_VARIANTS = {
    "llama-f32.gguf": ("llama", gguf.GGMLQuantizationType.F32),
    "llama-gqa-q8_0.gguf": ("llama-gqa", gguf.GGMLQuantizationType.Q8_0),
    "qwen2-f16.gguf": ("qwen2", gguf.GGMLQuantizationType.F16),
}


def config_json(name: str, variant: Variant) -> dict:
    fields = dict(CONFIGS[name])
    v5 = fields.pop("v5", False) if variant.v5 is None else variant.v5
    ends = {"bos_token_id": None, "eos_token_id": 317}
    if FAMILY[name] == "sentencepiece":
        ends = {"bos_token_id": 1, "eos_token_id": 2}
    elif FAMILY[name] == "smollm":
        ends = {"bos_token_id": 1, "eos_token_id": 2}
    dtype = str(variant.dtype).removeprefix("torch.")
    config = {"architectures": [CLASSES[fields["model_type"]]], **SHAPE, **ends, **fields}
    if v5:
        theta, scaling = config.pop("rope_theta"), config.pop("rope_scaling", None)
        config["rope_parameters"] = {"rope_theta": theta, **(scaling or {"rope_type": "default"})}
        config |= {"dtype": dtype, "transformers_version": transformers.__version__}
    else:
        config |= {"torch_dtype": dtype, "transformers_version": "4.46.0"}
        if config["head_dim"] * config["num_attention_heads"] == config["hidden_size"]:
            del config["head_dim"]  # as in the published files, where it follows from the others
    return config


def random_weights(name: str) -> dict[str, torch.Tensor]:
    """fp32 weights, large enough that attention is far from uniform and small enough that fp32 stays exact."""
    shape = CONFIGS[name]
    hidden, middle, head = shape["hidden_size"], shape["intermediate_size"], SHAPE["head_dim"]
    queries, keys = SHAPE["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    rng = np.random.Generator(np.random.PCG64(WEIGHT_SEEDS[name]))
    weights = {}

    def normal(key, *size, std, mean=0.0):
        weights[key] = torch.from_numpy((mean + std * rng.standard_normal(size)).astype(np.float32))

    normal("model.embed_tokens.weight", shape["vocab_size"], hidden, std=0.5)
    for layer in range(shape["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        normal(at + "input_layernorm.weight", hidden, std=0.15, mean=1.0)
        normal(at + "post_attention_layernorm.weight", hidden, std=0.15, mean=1.0)
        for part, rows, columns, std in (("q", queries, hidden, 0.2), ("k", keys, hidden, 0.2),
                                         ("v", keys, hidden, 0.15), ("o", hidden, queries, 0.12)):
            normal(f"{at}self_attn.{part}_proj.weight", rows, columns, std=std)
            if shape["model_type"] == "qwen2" and part != "o":
                normal(f"{at}self_attn.{part}_proj.bias", rows, std=0.4)
        if shape["model_type"] == "qwen3":
            normal(at + "self_attn.q_norm.weight", head, std=0.2, mean=1.5)
            normal(at + "self_attn.k_norm.weight", head, std=0.2, mean=1.5)
        normal(at + "mlp.gate_proj.weight", middle, hidden, std=0.15)
        normal(at + "mlp.up_proj.weight", middle, hidden, std=0.15)
        normal(at + "mlp.down_proj.weight", hidden, middle, std=0.12)
    # A tied head has the embedding's larger values; the last norm keeps logits of all checkpoints alike.
    normal("model.norm.weight", hidden, std=0.1, mean=0.5 if shape["tie_word_embeddings"] else 1.0)
    if not shape["tie_word_embeddings"]:
        normal("lm_head.weight", shape["vocab_size"], hidden, std=0.3)
    return weights


# ---------------------------------------------------------------------------------------------- checkpoints


def make_tokenizer(name: str) -> tuple[Tokenizer, list[float] | None]:
    if FAMILY[name] == "sentencepiece":
        return tokenizers_tiny.sentencepiece_like(352)
    # Two ids fewer than the qwen checkpoints have rows: real Qwen checkpoints pad their embeddings, too.
    return tokenizers_tiny.byte_level(318 if FAMILY[name] == "qwen" else 320, FAMILY[name]), None


def tokenizer_config(name: str) -> dict:
    if FAMILY[name] == "sentencepiece":
        ends, template = ("<s>", "</s>", "<unk>"), BRACKET_TEMPLATE
    else:
        ends, template = (None if FAMILY[name] == "qwen" else "<|im_start|>", "<|im_end|>", None), CHATML_TEMPLATE
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": ends[0], "eos_token": ends[1],
            "unk_token": ends[2], "add_bos_token": FAMILY[name] == "sentencepiece", "add_eos_token": False,
            "clean_up_tokenization_spaces": False, "model_max_length": 512, "chat_template": template}


def write_json(path: Path, value, indent: int | None = 1) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def write_checkpoint(name: str, variant: Variant, weights: dict[str, torch.Tensor]) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = config_json(variant.base, variant)
    write_json(folder / "config.json", config)
    eos = config["eos_token_id"]
    if variant.base == "qwen2":
        eos = [eos, 315]  # <|im_end|> and <|endoftext|>: generation_config knows more ends than config.json
    write_json(folder / "generation_config.json", {
        "_from_model_config": False, "bos_token_id": config["bos_token_id"], "eos_token_id": eos, "do_sample": True,
        "temperature": 0.7, "top_p": 0.8, "transformers_version": config["transformers_version"]})
    make_tokenizer(variant.base)[0].save(str(folder / "tokenizer.json"), pretty=False)
    write_json(folder / "tokenizer_config.json", tokenizer_config(variant.base))
    stored = {key: value.to(variant.dtype) for key, value in weights.items()}
    if variant.shards == 1:
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        return
    keys, where = sorted(stored), {}
    for shard in range(variant.shards):
        file = f"model-{shard + 1:05}-of-{variant.shards:05}.safetensors"
        part = keys[len(keys) * shard // variant.shards:len(keys) * (shard + 1) // variant.shards]
        save_file({key: stored[key] for key in part}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    total = sum(value.numel() * value.element_size() for value in stored.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


# ----------------------------------------------------------------------------------------------------- GGUF


def interleave_rotary_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """[heads * D, E] with rotated pairs (i, i + D/2) -> pairs side by side, as GGUF's llama keeps q and k."""
    rows, columns = weight.shape
    half = rows // heads // 2
    return weight.reshape(heads, 2, half, columns).swapaxes(1, 2).reshape(rows, columns)


def llama3_frequency_divisors(head: int, theta: float, scaling: dict) -> np.ndarray:
    """What GGUF's rope_freqs.weight holds: by how much each rotary frequency is divided. [D / 2] f32"""
    wave_length = 2 * np.pi * theta ** (np.arange(0, head, 2) / head)
    turns = scaling["original_max_position_embeddings"] / wave_length
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - smooth) / scaling["factor"] + smooth)).astype(np.float32)


GGUF_NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
              "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(key: str) -> str:
    stem, kind = key.removeprefix("model.").rsplit(".", 1)
    if stem.startswith("layers."):
        _, layer, part = stem.split(".", 2)
        return f"blk.{layer}.{GGUF_NAMES[part]}.{kind}"
    return {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[stem] + "." + kind


def add_gguf_tokenizer(writer: gguf.GGUFWriter, base: str, vocabulary_size: int) -> None:
    tokenizer, scores = make_tokenizer(base)
    by_id = {index: token for token, index in tokenizer.get_vocab(with_added_tokens=True).items()}
    tokens = [by_id.get(index, f"[PAD{index}]") for index in range(vocabulary_size)]
    special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    kinds = [gguf.TokenType.CONTROL if index in special else
             gguf.TokenType.NORMAL if index in by_id else gguf.TokenType.UNUSED for index in range(vocabulary_size)]
    if FAMILY[base] == "sentencepiece":
        kinds[0] = gguf.TokenType.UNKNOWN
        kinds[3:259] = [gguf.TokenType.BYTE] * 256
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(scores)
        writer.add_unk_token_id(0)
        writer.add_add_space_prefix(True)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2" if FAMILY[base] == "qwen" else "smollm")
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    config = config_json(base, Variant(base))
    if config["bos_token_id"] is not None:
        writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(FAMILY[base] == "sentencepiece")
    writer.add_add_eos_token(False)
    writer.add_chat_template(tokenizer_config(base)["chat_template"])


def write_gguf(file: str, base: str, kind: gguf.GGMLQuantizationType,
               weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Writes the file; returns the weights a reader gets from it, in the Hugging Face layout and fp32."""
    config = {**SHAPE, **CONFIGS[base]}
    writer = gguf.GGUFWriter(HERE / file, config["model_type"])
    writer.add_name(file.removesuffix(".gguf"))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type({"F32": 0, "F16": 1, "Q8_0": 7}[kind.name])
    is_llama = config["model_type"] == "llama"
    if is_llama:
        writer.add_rope_dimension_count(config["head_dim"])
    if config["head_dim"] * config["num_attention_heads"] != config["hidden_size"]:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    add_gguf_tokenizer(writer, base, config["vocab_size"])
    if is_llama and config["rope_scaling"]:
        divisors = llama3_frequency_divisors(config["head_dim"], config["rope_theta"], config["rope_scaling"])
        rotary = load_model(config_json(base, Variant(base)), weights).model.rotary_emb.inv_freq.numpy()
        plain = config["rope_theta"] ** (-np.arange(0, config["head_dim"], 2) / config["head_dim"])
        assert np.allclose(plain / divisors, rotary, rtol=1e-6), "the divisors are not the reference's"
        writer.add_tensor("rope_freqs.weight", divisors)
    read_back = {}
    for key, value in weights.items():
        stored_kind = kind if value.ndim == 2 else gguf.GGMLQuantizationType.F32
        heads = {"q_proj.weight": config["num_attention_heads"], "k_proj.weight": config["num_key_value_heads"]}
        count = next((n for end, n in heads.items() if is_llama and key.endswith(end)), None)
        array = value.numpy()
        data = gguf.quants.quantize(interleave_rotary_rows(array, count) if count else array, stored_kind)
        writer.add_tensor(gguf_name(key), data, raw_dtype=stored_kind)
        # Rows are quantized one by one, so permuting them before or after is the same.
        read_back[key] = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(array, stored_kind),
                                                                 stored_kind).astype(np.float32).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_back


# ------------------------------------------------------------------------------------------------- fixtures


def load_model(config: dict, weights: dict[str, torch.Tensor], dtype=torch.float32) -> torch.nn.Module:
    kind = getattr(transformers, config["architectures"][0])
    settings = kind.config_class.from_dict({key: value for key, value in config.items()
                                            if key not in ("torch_dtype", "dtype")})
    settings._attn_implementation = "eager"
    model = kind(settings).to(dtype).eval()
    missing, unexpected = model.load_state_dict({k: v.to(dtype) for k, v in weights.items()}, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


@torch.no_grad()
def rows(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids]), use_cache=False).logits[0]  # [T, V]


def make_prompts(vocabulary_size: int, seed: int) -> dict[str, list[int]]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return {str(length): rng.integers(0, vocabulary_size, length).tolist() for length in PROMPT_LENGTHS}


def greedy(model: torch.nn.Module, prompt: list[int]) -> tuple[list[int], torch.Tensor, float]:
    ids, kept, margin = [], [], np.inf
    for _ in range(GREEDY_TOKENS):
        row = rows(model, prompt + ids)[-1]
        best = row.topk(2).values
        margin = min(margin, float(best[0] - best[1]))
        kept.append(row)
        ids.append(int(row.argmax()))
    return ids, torch.stack(kept), margin


def write_fixture(name: str, base: str, config: dict, weights: dict[str, torch.Tensor]) -> None:
    model, exact = load_model(config, weights), load_model(config, weights, torch.float64)
    seed = zlib.crc32(base.encode())  # the variants of one base share their prompts as far as margins allow
    while True:
        prompts = make_prompts(config["vocab_size"], seed)
        ids, greedy_rows, margin = greedy(model, prompts[str(GREEDY_LENGTH)])
        if margin > GREEDY_MARGIN and len(set(ids)) > 5:
            break
        seed += 1
    tensors, worst = {"greedy.logits": greedy_rows}, 0.0
    for length, prompt in prompts.items():
        logits = rows(model, prompt)
        worst = max(worst, float((logits - rows(exact, prompt)).abs().max()))
        tensors[f"prompt_{length}.last"] = logits[-1].clone()
        if int(length) == ALL_ROWS_LENGTH:
            tensors[f"prompt_{length}.all"] = logits
    save_file({key: value.contiguous() for key, value in tensors.items()}, HERE / "expected" / f"{name}.safetensors")
    versions = {package.__name__: package.__version__ for package in (torch, transformers, np)}
    write_json(HERE / "expected" / f"{name}.json", {
        "model": name, "versions": versions, "prompt_seed": seed, "prompts": prompts,
        "all_rows_prompt": str(ALL_ROWS_LENGTH), "greedy": {"prompt": str(GREEDY_LENGTH), "ids": ids},
        "greedy_margin": margin, "fp32_error_of_the_reference": worst}, indent=None)
    spread = float(tensors["prompt_200.last"].std())
    print(f"{name:22} logits std {spread:.2f}  greedy margin {margin:.4f}  fp32 against fp64 {worst:.1e}")


TEXTS = ["The memory of 1987 fades.", "  two  spaces, a\ttab\n\nand lines\n", "naïve Straße — 记忆 和 忘却 🧠é",
         "def f(x):\n    return x ** 2 + 33\n", "I'll don't WE'VE", ""]
CHATS = [[{"role": "user", "content": "What fades?"}],
         [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "Who?"},
          {"role": "assistant", "content": "Ebbinghaus."}, {"role": "user", "content": "When?"}]]


def write_text_fixture(base: str) -> None:
    """Ids of a few texts and chats by the reference library, for the folder and the GGUF of the same base."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(HERE / base)
    raw = Tokenizer.from_file(str(HERE / base / "tokenizer.json"))
    chats = []
    for messages in CHATS:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        chats.append({"messages": messages, "text": text,
                      "ids_with_specials": raw.encode(text, add_special_tokens=False).ids})
    texts = [{"text": text, "ids": raw.encode(text).ids} for text in TEXTS]
    write_json(HERE / "expected" / f"{base}.text.json", {"texts": texts, "chats": chats}, indent=None)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)  # one order of summation
    (HERE / "expected").mkdir(exist_ok=True)
    for name, variant in VARIANTS.items():
        weights = random_weights(variant.base)
        write_checkpoint(name, variant, weights)
        if variant.shards == 1:  # the sharded checkpoint has the weights, hence the fixture, of its base
            rounded = {key: value.to(variant.dtype).float() for key, value in weights.items()}
            write_fixture(name, variant.base, config_json(variant.base, variant), rounded)
    for file, (base, kind) in GGUF_VARIANTS.items():
        read_back = write_gguf(file, base, kind, random_weights(base))
        if kind != gguf.GGMLQuantizationType.F32:  # F32 again has the fixture of its base
            write_fixture(file, base, config_json(base, Variant(base)), read_back)
    for base in CONFIGS:
        write_text_fixture(base)


if __name__ == "__main__":
    main()
