"""The memory, step by step and by masking, as its specification words it. Slow, plain, and independent.

Numbers such as 4.3 are sections of the specification. Where it leaves room, the reading taken is said at the
place, and all readings are listed in README.md.
"""

import dataclasses
import math

import numpy as np

from tiny_model import TinyModel

BASELINE, SOFT, SPARSE = "GENERATION_MODE_BASELINE", "GENERATION_MODE_SOFT_DELETE", "GENERATION_MODE_SPARSE_ATTENTION"


@dataclasses.dataclass(frozen=True)
class Parameters:
    """The values in force, named as in the proto; the defaults are those of MEMORY_PRESET_DEFAULT."""

    initial_strength: float = 5.0
    time_step: float = 0.01
    reset_threshold: float = 0.01
    forget_threshold: float = 0.001
    vote_ratio: float = 0.5
    vote_layers: str = "VOTE_LAYERS_ALL"
    scope: str = "FORGET_SCOPE_CONSENSUS"
    soft_floor: float = 0.8
    soft_ceiling: float = 1.0
    soft_layer_ratio: float = 0.5
    soft_form: str = "SOFT_FORM_LOG_BIAS"
    sink_tokens: int = 4
    recent_tokens: int = 64
    min_live_tokens: int = 1
    max_live_tokens: int = 0
    observe_interval: int = 1
    prompt_ticks: int = 0
    prompt_observation: str = "PROMPT_OBSERVATION_LAST"
    prompt_window_tokens: int = 0
    strength_cap: float = 0.0
    pinned: tuple = ()  # of {"begin": first position, "end": one past the last}


_CHAT = {"time_step": 0.05, "scope": "FORGET_SCOPE_PER_LAYER", "prompt_observation": "PROMPT_OBSERVATION_ALL"}
PRESETS = {  # 4.6
    "MEMORY_PRESET_ORIGINAL": {"soft_form": "SOFT_FORM_KV_SCALE", "sink_tokens": 0, "recent_tokens": 0},
    "MEMORY_PRESET_DEFAULT": {},
    "MEMORY_PRESET_CHAT": _CHAT,
    "MEMORY_PRESET_TIGHT": _CHAT | {"time_step": 0.175},
}


def resolve(explicit: dict) -> Parameters:
    """The preset first, then the fields set beside it."""
    fields = dict(explicit)
    preset = PRESETS[fields.pop("preset", "MEMORY_PRESET_DEFAULT")]
    return Parameters(**(preset | fields))


class Margins:
    """How near any decision came to going the other way, relative; a fixture needs all of them wide."""

    def __init__(self):
        self.reset = self.vote = self.order = math.inf

    def saw_reset(self, mass: np.ndarray, threshold: float) -> None:
        self.reset = min(self.reset, float(np.min(np.abs(mass - threshold)) / threshold))

    def saw_vote(self, time: np.ndarray, limit: np.ndarray) -> None:
        if time.size:
            self.vote = min(self.vote, float(np.min(np.abs(time - limit) / limit)))

    def saw_choice(self, last_taken: float, first_left: float) -> None:
        if last_taken != first_left:  # an exact tie is decided by position, which is exact
            gap = abs(first_left - last_taken) / max(abs(first_left), abs(last_taken), 1.0)
            self.order = min(self.order, gap)


class MaskedMemory:
    """One sequence: full caches, a live mask per layer, and the state of every token ever seen."""

    def __init__(self, model: TinyModel, mode: str, parameters: Parameters):
        self.model, self.mode, self.p = model, mode, parameters
        self.layers = model.layers
        self.clock = 0  # n of 2.1
        self.step = 0
        self.ids: list[int] = []
        self.live = np.zeros((self.layers, 0), bool)
        self.strength = np.zeros((self.layers, 0), np.float32)  # S
        self.reset_tick = np.zeros((self.layers, 0), np.int64)  # a
        self.events: list[dict] = []
        self.resets = 0  # not counting newborns of the same step
        self.margins = Margins()
        self.last_mass = np.zeros((self.layers, 0))
        model.reset()

    # -------------------------------------------------------------------------------------------- passes

    def read_prompt(self, ids: list[int]) -> np.ndarray:
        """Step 0: plain attention; the observed rows strengthen in order. Returns the last row's logits. [V]"""
        row = self.model.forward(ids)
        self.ids = list(ids)
        count, ticks = len(ids), self.p.prompt_ticks
        for position in range(count):
            self._bear(position * ticks)
        if self.mode != BASELINE:
            for position in range(self._first_observed(count), count):
                # Causal: the tokens after `position` have mass 0 in this row and are not born yet.
                seen = np.zeros(count, bool)
                seen[:position + 1] = True
                self._strengthen(row.mass[:, position], position * ticks, seen, gain=1)
        self.clock = count * ticks
        self.last_mass = row.mass[:, -1]
        return row.logits[-1]

    def feed(self, token: int) -> np.ndarray:
        """One decode step in the order of 2.5. Returns the logits. [V]"""
        self.clock += 1  # the token sampled last is fed back
        self.step += 1
        if self.mode == SPARSE:
            self._forget()
        self.ids.append(token)
        self._bear(self.clock)
        row = self.model.forward([token], None if self.mode == BASELINE else self._alter)
        self.last_mass = row.mass[:, 0]
        if self.mode != BASELINE and self.step % self.p.observe_interval == 0:
            everyone = np.ones(len(self.ids), bool)
            self._strengthen(self.last_mass, self.clock, everyone, gain=self.p.observe_interval)
        return row.logits[0]

    def retention(self) -> np.ndarray:
        """R of 2.4 at the present clock, 0 where forgotten. [L, N]"""
        elapsed = self.p.time_step * (self.clock - self.reset_tick)
        return np.where(self.live, np.exp(-elapsed / self.strength.astype(np.float64)), 0.0)

    # --------------------------------------------------------------------------------------------- state

    def _bear(self, tick: int) -> None:
        def grown(array, value):
            return np.concatenate([array, np.full((self.layers, 1), value, array.dtype)], axis=1)

        self.live = grown(self.live, True)
        self.strength = grown(self.strength, self.p.initial_strength)
        self.reset_tick = grown(self.reset_tick, tick)

    def _first_observed(self, count: int) -> int:
        window = {"PROMPT_OBSERVATION_LAST": 1, "PROMPT_OBSERVATION_ALL": count,
                  "PROMPT_OBSERVATION_WINDOW": self.p.prompt_window_tokens}[self.p.prompt_observation]
        return max(0, count - window)

    def _strengthen(self, mass: np.ndarray, tick: int, seen: np.ndarray, gain: int) -> None:
        """3. `mass` [L, N] is of one row; the reset compares the mass itself, not the mass times the gain."""
        where = self.live & seen
        # A mask hides its tokens completely, and what is left of a row adds up to 1 (invariant I3).
        assert not mass[~where].any() and np.allclose(np.where(where, mass, 0).sum(axis=1), 1, atol=1e-5)
        self.margins.saw_reset(mass[where], self.p.reset_threshold)
        stronger = self.strength + np.float32(gain) * mass.astype(np.float32)
        if self.p.strength_cap:
            stronger = np.minimum(stronger, np.float32(self.p.strength_cap))
        self.strength = np.where(where, stronger, self.strength).astype(np.float32)
        again = where & (mass >= self.p.reset_threshold)
        self.resets += int((again & (self.reset_tick < tick)).sum())
        self.reset_tick = np.where(again, tick, self.reset_tick)

    # ----------------------------------------------------------------------------------------- attention

    def _alter(self, layer: int, logits: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.mode == SPARSE:
            return np.where(self.live[layer], logits, -np.inf), values
        if layer >= math.floor(self.p.soft_layer_ratio * self.layers + 1e-9):
            return logits, values
        weight = np.clip(self.retention()[layer], self.p.soft_floor, self.p.soft_ceiling)  # 4.2
        weight = weight.astype(logits.dtype)
        if self.p.soft_form == "SOFT_FORM_KV_SCALE":
            return logits * weight, values * weight[:, None]
        return logits + np.log(weight), values

    # ---------------------------------------------------------------------------------------- forgetting

    def _forget(self) -> None:
        if self.p.scope == "FORGET_SCOPE_PER_LAYER":
            for layer in range(self.layers):
                self._forget_among([layer], need=1, targets=[layer], layer=layer)
            return
        voters = self.layers if self.p.vote_layers == "VOTE_LAYERS_ALL" else math.ceil(self.layers / 2)
        need = max(1, math.ceil(self.p.vote_ratio * voters - 1e-9))
        self._forget_among(list(range(voters)), need, list(range(self.layers)), layer=None)

    def _forget_among(self, voters: list[int], need: int, targets: list[int], layer: int | None) -> None:
        """4.3, then 4.4, for one set of live tokens: of all layers together, or of one layer."""
        alive = np.flatnonzero(self.live[targets[0]])
        free = alive[~self._is_protected(alive)].tolist()
        strength = self.strength[voters].astype(np.float64)
        elapsed = self.p.time_step * (self.clock - self.reset_tick[voters])
        limit = strength * math.log(1 / self.p.forget_threshold)
        self.margins.saw_vote(elapsed[:, free], limit[:, free])
        votes = (elapsed > limit).sum(axis=0)
        if self.p.time_step > 0:
            expiries = self.reset_tick[voters] + limit / self.p.time_step
        else:
            expiries = strength  # 4.4: with time standing still the weakest goes first
        expiry = np.sort(expiries, axis=0)[need - 1]

        def choose(tokens: list[int], count: int) -> list[int]:
            order = sorted(tokens, key=lambda token: (expiry[token], token))
            if 0 < count < len(order):
                self.margins.saw_choice(expiry[order[count - 1]], expiry[order[count]])
            return order[:max(0, count)]

        # The newborn, which comes after this decision, is one of those that stay for min_live_tokens.
        spare = len(alive) + 1 - self.p.min_live_tokens
        gone = choose([token for token in free if votes[token] >= need], spare)
        if self.p.max_live_tokens:
            left = [token for token in free if token not in gone]
            excess = len(alive) - len(gone) + 1 - self.p.max_live_tokens
            spare -= len(gone)
            gone = gone + choose(left, min(excess, spare))
        for token in gone:
            self.live[targets, token] = False
            event = {"step": self.step, "position": token, "token_id": self.ids[token], "votes": int(votes[token])}
            self.events.append(event if layer is None else event | {"layer": layer})

    def _is_protected(self, alive: np.ndarray) -> np.ndarray:
        """Which of the live tokens (ascending positions) may not go, whatever their state."""
        protected = alive < self.p.sink_tokens
        protected[max(0, len(alive) - self.p.recent_tokens):] = True
        for pin in self.p.pinned:
            protected |= (pin["begin"] <= alive) & (alive < pin["end"])
        return protected
