#!/usr/bin/env python3
"""llama.cpp on orders (protocol.py), with its defaults: K/V in 16 bits, flash attention where it thinks best.

  llama_driver.py MODEL.gguf THREADS
"""
import ctypes
import sys

import llama_cpp
import numpy as np

import protocol

PASS_TOKENS = 2048  # of a prompt in one call; it computes 512 of them at a time
FIRST_ID, LAST_ID = 300, 40000


class LlamaCpp:
    def __init__(self, path, threads):
        llama_cpp._logger.set_verbose(False)  # errors only
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise RuntimeError("llama.cpp cannot load " + path)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.threads = threads
        self.batch = llama_cpp.llama_batch_init(PASS_TOKENS, 0, 1)
        self.random = np.random.default_rng(1)
        self.context = None
        self.position, self.tokens = 0, []

    def start(self, sequences, tokens):
        """A context with room for so many sequences of so many tokens."""
        parameters = llama_cpp.llama_context_default_params()
        room = -(-tokens // 256) * 256  # it rounds up, too
        parameters.n_ctx, parameters.n_seq_max = room * sequences, sequences
        parameters.n_batch, parameters.n_ubatch = PASS_TOKENS, 512
        parameters.n_outputs_max = sequences
        parameters.kv_unified = False  # or each sequence would look through the others' tokens
        parameters.n_threads = parameters.n_threads_batch = self.threads
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not self.context:
            raise RuntimeError("llama.cpp has no room for the context")
        self.position, self.tokens = 0, [0] * sequences

    def decode(self, rows):
        """One pass over rows of (token, position, sequence, whether logits are wanted)."""
        self.batch.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            self.batch.token[i], self.batch.pos[i] = token, position
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
            self.batch.logits[i] = logits
        if llama_cpp.llama_decode(self.context, self.batch) != 0:
            raise RuntimeError("llama_decode failed")

    def most_likely(self, row):
        logits = llama_cpp.llama_get_logits_ith(self.context, row)
        address = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
        return int(np.ctypeslib.as_array(address, shape=(self.vocabulary,)).argmax())

    def read_prompt(self, sequence, tokens):
        ids = [int(i) for i in self.random.integers(FIRST_ID, LAST_ID, tokens)]
        for first in range(0, tokens, PASS_TOKENS):
            end = min(first + PASS_TOKENS, tokens)
            self.decode([(ids[p], p, sequence, p == tokens - 1) for p in range(first, end)])
        self.tokens[sequence] = self.most_likely(end - first - 1)

    def prefill(self, tokens):
        self.start(1, tokens)
        self.read_prompt(0, tokens)
        self.close()

    def open(self, batch, context, steps, live):
        if live:
            raise ValueError("llama.cpp has no cache eviction")
        self.start(batch, context + steps + 3)
        for sequence in range(batch):
            self.read_prompt(sequence, context)
        self.position = context
        for _ in range(3):
            self.step()

    def step(self):
        self.decode([(token, self.position, sequence, True) for sequence, token in enumerate(self.tokens)])
        self.tokens = [self.most_likely(row) for row in range(len(self.tokens))]
        self.position += 1

    def close(self):
        if self.context:
            llama_cpp.llama_free(self.context)
            self.context = None


if __name__ == "__main__":
    protocol.serve(LlamaCpp(sys.argv[1], int(sys.argv[2])))
