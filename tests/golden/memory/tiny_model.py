"""A plain numpy forward pass of the tiny checkpoints beside this folder, written from the papers' formulas.

Nothing is ever removed from the cache here: callers hide tokens with a mask, which is what makes it an
independent check of an engine that frees slots.
"""

import dataclasses
import json
from pathlib import Path
from typing import Callable

import numpy as np
from safetensors.numpy import load_file

MODELS = Path(__file__).parent.parent / "models"

# What a memory does to the attention of one layer: (layer, logits [H, T, N], values [H, N, D]) -> both, altered.
Alter = Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass
class Row:
    """The result of a forward pass over T tokens, N tokens being cached after it."""

    logits: np.ndarray  # [T, V]
    mass: np.ndarray  # [L, T, N] the mean over the query heads of the attention probabilities


class TinyModel:
    """Qwen2, Llama and Mistral in the Hugging Face layout, computed in `dtype` whatever the file holds."""

    def __init__(self, name: str, dtype=np.float64):
        folder = MODELS / name
        self.config = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        self.weights = {key: value.astype(dtype) for key, value in tensors.items()}
        self.dtype = dtype
        self.layers = self.config["num_hidden_layers"]
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config["num_key_value_heads"]
        self.head_size = self.config.get("head_dim") or self.config["hidden_size"] // self.heads
        self.vocabulary_size = self.config["vocab_size"]
        self.frequencies = self._frequencies()
        self.reset()

    def reset(self) -> None:
        empty = np.zeros((self.kv_heads, 0, self.head_size), self.dtype)
        self.keys = [empty] * self.layers  # each [K, N, D], rotated
        self.values = [empty] * self.layers

    def _frequencies(self) -> np.ndarray:
        rope = self.config.get("rope_parameters") or self.config.get("rope_scaling") or {}
        theta = rope.get("rope_theta", self.config.get("rope_theta"))
        plain = theta ** (-np.arange(0, self.head_size, 2, dtype=np.float64) / self.head_size)
        kind = rope.get("rope_type", "default")
        if kind == "default":
            return plain
        assert kind == "llama3", kind
        turns = rope["original_max_position_embeddings"] * plain / (2 * np.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0, 1)  # 1: as trained, 0: slowed by the factor
        return plain * (kept + (1 - kept) / rope["factor"])

    def _rotate(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """x [heads, T, D]: dimension i turns together with i + D/2."""
        angle = positions[:, None] * self.frequencies  # [T, D/2] fp64 in any dtype: positions are exact
        cos, sin = np.cos(angle).astype(self.dtype), np.sin(angle).astype(self.dtype)
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.dtype(self.config["rms_norm_eps"]))
        return x * scale * self.weights[name + ".weight"]

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        y = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def _heads(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(x.shape[0], -1, self.head_size).swapaxes(0, 1)  # [T, h * D] -> [h, T, D]

    def forward(self, ids: list[int], alter: Alter | None = None) -> Row:
        """Appends `ids` to the cache and attends, in causal order, to everything that `alter` leaves visible."""
        start, count = self.keys[0].shape[1], len(ids)
        positions = np.arange(start, start + count)
        future = np.arange(start + count)[None, :] > positions[:, None]  # [T, N]
        table = self.weights["model.embed_tokens.weight"]
        x, masses = table[ids], []
        for layer in range(self.layers):
            at = f"model.layers.{layer}."
            normed = self._norm(x, at + "input_layernorm")
            query, key, value = (self._heads(self._linear(normed, f"{at}self_attn.{part}_proj")) for part in "qkv")
            query, key = self._rotate(query, positions), self._rotate(key, positions)
            self.keys[layer] = np.concatenate([self.keys[layer], key], axis=1)
            self.values[layer] = np.concatenate([self.values[layer], value], axis=1)
            group = self.heads // self.kv_heads
            all_keys = np.repeat(self.keys[layer], group, axis=0)  # [H, N, D]
            all_values = np.repeat(self.values[layer], group, axis=0)
            logits = query @ all_keys.swapaxes(1, 2) / self.dtype(np.sqrt(self.head_size))  # [H, T, N]
            if alter:
                logits, all_values = alter(layer, logits, all_values)
            logits = np.where(future, -np.inf, logits)
            odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
            probability = odds / odds.sum(axis=-1, keepdims=True)
            masses.append(probability.mean(axis=0))
            mixed = (probability @ all_values).swapaxes(0, 1).reshape(count, -1)
            x = x + self._linear(mixed, at + "self_attn.o_proj")
            normed = self._norm(x, at + "post_attention_layernorm")
            gate = self._linear(normed, at + "mlp.gate_proj")
            gated = gate / (1 + np.exp(-gate)) * self._linear(normed, at + "mlp.up_proj")
            x = x + self._linear(gated, at + "mlp.down_proj")
        head = self.weights.get("lm_head.weight", table)
        return Row(self._norm(x, "model.norm") @ head.T, np.stack(masses))
