"""Records what the reference library makes of the default model: python reference.py PATH_TO.gguf

Writes expected.json: token ids and greedy text of one chat, token ids and perplexity of passage.txt, in fp32 with the
weights as the GGUF file's blocks decode. The tokenizer is built here from the file's own tokens and merges, since the
library's GGUF conversion leaves out the rule of `tokenizer.ggml.pre = smollm` that each digit stands alone.
"""

import argparse
import hashlib
import importlib.metadata
import json
import math
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HERE = Path(__file__).parent
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
QUESTION = "Who was Hermann Ebbinghaus?"
NEW_TOKENS = 40


def field(reader: gguf.GGUFReader, name: str):
    return reader.get_field(name).contents()


def make_tokenizer(reader: gguf.GGUFReader) -> Tokenizer:
    assert field(reader, "tokenizer.ggml.model") == "gpt2" and field(reader, "tokenizer.ggml.pre") == "smollm"
    tokens, kinds = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def render(reader: gguf.GGUFReader, tokenizer: Tokenizer, messages: list[dict]) -> str:
    tokens = field(reader, "tokenizer.ggml.tokens")
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=tokens[field(reader, "tokenizer.ggml.bos_token_id")],
        eos_token=tokens[field(reader, "tokenizer.ggml.eos_token_id")])
    wrapped.chat_template = field(reader, "tokenizer.chat_template")
    return wrapped.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


@torch.no_grad()
def greedy(model: torch.nn.Module, prompt: list[int], eos: int) -> tuple[list[int], float]:
    """The most probable tokens one after the other, and the smallest gap between best and second logit."""
    ids, margin = [], math.inf
    while len(ids) < NEW_TOKENS and eos not in ids:
        best = model(torch.tensor([prompt + ids]), use_cache=False).logits[0, -1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids, margin


@torch.no_grad()
def negative_log_likelihoods(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    """-ln p of every token after the first, one window. [T - 1] fp64"""
    rows = model(torch.tensor([ids])).logits[0, :-1].double()
    chosen = torch.log_softmax(rows, dim=-1).gather(1, torch.tensor(ids[1:])[:, None])
    return -chosen[:, 0].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path)
    path = parser.parse_args().gguf
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256, "not the default model's file"
    reader = gguf.GGUFReader(path)
    tokenizer = make_tokenizer(reader)
    adds_bos = reader.get_field("tokenizer.ggml.add_bos_token")
    bos = [field(reader, "tokenizer.ggml.bos_token_id")] if adds_bos and adds_bos.contents() else []
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()

    text = render(reader, tokenizer, [{"role": "user", "content": QUESTION}])
    prompt = tokenizer.encode(text, add_special_tokens=False).ids
    answer, margin = greedy(model, prompt, field(reader, "tokenizer.ggml.eos_token_id"))
    passage = bos + tokenizer.encode((HERE / "passage.txt").read_text(encoding="utf-8"), add_special_tokens=False).ids
    losses = negative_log_likelihoods(model, passage)
    expected = {
        "model_sha256": SHA256,
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, tokenizers, np)}
        | {"gguf": importlib.metadata.version("gguf")},
        "chat": {"messages": [{"role": "user", "content": QUESTION}], "rendered": text, "prompt_ids": prompt,
                 "greedy_ids": answer, "greedy_text": tokenizer.decode(answer), "smallest_logit_gap": margin},
        "passage": {"file": "passage.txt", "bos_added": bool(bos), "ids": passage, "mean_negative_log_likelihood":
                    float(losses.mean()), "perplexity": float(np.exp(losses.mean())),
                    "first_losses": [round(float(loss), 5) for loss in losses[:16]]},
    }
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")
    print(repr(expected["chat"]["greedy_text"]), f"smallest gap {margin:.4f};", len(passage), "tokens of the passage,",
          "perplexity", expected["passage"]["perplexity"])


if __name__ == "__main__":
    main()
