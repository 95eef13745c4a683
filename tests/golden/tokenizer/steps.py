"""Small tokenizer definitions: every model, normalizer, pre-tokenizer, post-processor and decoder, alone and together."""
import base64
import struct

WORDS = ["the", "curve", "fall", "falls", "fast", "at", "first", "then", "slow", "ly", "er", "ing", "re", "un", "mem", "ory",
         "und", "der", "die", "l", "naïf", "mangé", "Память", "па", "мять", "记忆", "記", "憶", "の", "カタ", "12", "2024", "don", "'t",
         "İ", "straße", "ﬁne", "..", "--", "de", "és", "a", "e", "o", "x", "f", "i", "n"]


def letters():
    text = "".join(WORDS) + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-_()<>|/ \n▁éèüöäßñ"
    return sorted(set(text))


def wordpiece(prefix="##", **more):
    tokens = ["[UNK]", "[CLS]", "[SEP]", *letters(), *(prefix + c for c in letters()), *WORDS, *(prefix + w for w in WORDS)]
    return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix, "max_input_chars_per_word": 30,
            "vocab": {t: i for i, t in enumerate(dict.fromkeys(tokens))}, **more}


def wordlevel():
    tokens = ["<unk>", *WORDS, *letters(), "The", "curve,", "it"]
    return {"type": "WordLevel", "unk_token": "<unk>", "vocab": {t: i for i, t in enumerate(dict.fromkeys(tokens))}}


def unigram(byte_fallback=False, unknown=True):
    pieces = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if byte_fallback else [])
    pieces += ["▁" + w for w in WORDS] + WORDS + [c for c in letters() if c not in "zq7\n "]
    pieces = list(dict.fromkeys(pieces))
    vocab = [[p, 0.0 if p.startswith("<") and len(p) > 1 else -2.0 - 0.37 * (i % 11) - 4.0 / len(p)] for i, p in enumerate(pieces)]
    return {"type": "Unigram", "unk_id": 0 if unknown else None, "vocab": vocab, "byte_fallback": byte_fallback}


def bpe(prefix="", suffix="", **more):
    vocab = ["<unk>"]
    for c in letters():
        vocab += [c, prefix + c, c + suffix, prefix + c + suffix]
    merges = []
    for word in WORDS:
        pieces = [prefix * (i > 0) + c + suffix * (i == len(word) - 1) for i, c in enumerate(word)]
        left = pieces[0]
        for right in pieces[1:]:
            merges.append([left, right])
            left += right[len(prefix):]
            vocab += [right, left]
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": prefix or None,
            "end_of_word_suffix": suffix or None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(dict.fromkeys(vocab))},
            "merges": list(map(list, dict.fromkeys(map(tuple, merges)))), **more}


def charsmap(replacements):
    """The bytes of a precompiled charsmap, whose trie is built the plain way: every node has 256 units of its own."""
    blob, root = b"", {}
    for source, target in replacements.items():
        node = root
        for byte in source.encode():
            node = node.setdefault(byte, {})
        node["leaf"] = len(blob)
        blob += target.encode() + b"\0"
    units = {}
    order = [(root, 0, None)]  # a node, where its unit is, its label
    next_base = 256
    while order:
        node, at, label = order.pop(0)
        base = next_base
        next_base += 256
        offset = at ^ base
        leaf = "leaf" in node
        units[at] = (label or 0) | (1 << 8 if leaf else 0) | (offset << 10 if offset < 1 << 21 else None)
        if leaf:
            units[base] = node["leaf"] | 1 << 31
        for byte, child in node.items():
            if byte != "leaf":
                order.append((child, base ^ byte, byte))
    array = [units.get(i, 0xFF if i & 0xFF != 0xFF else 0xFE) for i in range(max(units) + 256)]
    return struct.pack("<I", 4 * len(array)) + struct.pack(f"<{len(array)}I", *array) + blob


def sequence(name, *steps):
    return {"type": "Sequence", name: list(steps)}


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
WORDPIECE_DECODER = {"type": "WordPiece", "prefix": "##", "cleanup": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
ADDED = [("[MASK]", "sl"), ("<think>", ""), ("Ünion", "n"), ("wörd", "nw"), ("</s2>", "r")]


def definition(model, normalizer=None, pre=None, post=None, decoder=None, special=(), added=()):
    vocab = [p for p, _ in model["vocab"]] if isinstance(model["vocab"], list) else list(model["vocab"])
    ids = {t: i for i, t in enumerate(vocab)} if isinstance(model["vocab"], list) else model["vocab"]
    tokens = [(ids[t], t, "s") for t in special] + [(len(vocab) + i, t, flags) for i, (t, flags) in enumerate(added)]
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": t, "single_word": "w" in f, "lstrip": "l" in f, "rstrip": "r" in f,
                              "normalized": "n" in f, "special": "s" in f} for i, t, f in tokens],
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model}


def definitions():
    """name -> definition"""
    result = {}
    cls = dict(special=["[UNK]", "[CLS]", "[SEP]"])
    result["bert"] = definition(wordpiece(), BERT, {"type": "BertPreTokenizer"},
                                {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}, WORDPIECE_DECODER,
                                added=ADDED, **cls)
    cased = {**BERT, "lowercase": False, "strip_accents": True, "clean_text": False, "handle_chinese_chars": False}
    result["bert-cased"] = definition(wordpiece(), cased, {"type": "BertPreTokenizer"},
                                      {"type": "RobertaProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1],
                                       "trim_offsets": True, "add_prefix_space": False},
                                      {**WORDPIECE_DECODER, "cleanup": False}, **cls)
    for normalizer in ["Lowercase", "StripAccents", "Nmt", "NFD", "NFKC"]:
        result[f"normalizer-{normalizer.lower()}"] = definition(wordpiece(), {"type": normalizer}, {"type": "Whitespace"},
                                                                added=ADDED)
    for left, right in [(True, False), (False, True), (True, True)]:
        result[f"normalizer-strip-{left:d}{right:d}"] = definition(
            bpe(), {"type": "Strip", "strip_left": left, "strip_right": right}, None, decoder={"type": "Fuse"},
            added=ADDED)
    pres = {"whitespace": {"type": "Whitespace"}, "whitespacesplit": {"type": "WhitespaceSplit"},
            "scripts": {"type": "UnicodeScripts"}, "delimiter": {"type": "CharDelimiterSplit", "delimiter": "e"},
            "fixedlength": {"type": "FixedLength", "length": 3},
            "digits": {"type": "Digits", "individual_digits": True},
            "scripts-whitespace": sequence("pretokenizers", {"type": "UnicodeScripts"}, {"type": "WhitespaceSplit"})}
    for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        pres[f"punctuation-{behavior.lower()}"] = {"type": "Punctuation", "behavior": behavior}
    for name, pre in pres.items():
        result[f"pre-{name}"] = definition(bpe(), None, pre, decoder=None)
    result["wordlevel"] = definition(wordlevel(), None, {"type": "Whitespace"}, decoder=None, special=["<unk>"], added=ADDED)
    result["bpe-suffix"] = definition(bpe(suffix="</w>"), {"type": "Lowercase"}, {"type": "WhitespaceSplit"},
                                      decoder={"type": "BPEDecoder", "suffix": "</w>"}, added=ADDED)
    result["bpe-prefix"] = definition(bpe(prefix="##"), None, {"type": "BertPreTokenizer"}, decoder=WORDPIECE_DECODER)
    result["bpe-ignore-merges"] = definition(bpe(ignore_merges=True, fuse_unk=True), None, {"type": "Whitespace"},
                                             decoder={"type": "Fuse"})
    result["bytelevel-normalizer"] = definition(bpe(), {"type": "ByteLevel"}, None, decoder=BYTE_LEVEL)
    result["bytelevel-then-split"] = definition(
        bpe(), None, sequence("pretokenizers", BYTE_LEVEL, {"type": "Split", "pattern": {"Regex": "Ġ"}, "behavior": "MergedWithNext",
                                                            "invert": False}), decoder=BYTE_LEVEL)
    fallback = {"byte_fallback": True, "unk_token": None}
    with_bytes = bpe(**fallback)
    for b in range(256):
        with_bytes["vocab"].setdefault(f"<0x{b:02X}>", len(with_bytes["vocab"]))
    result["bytelevel-fallback"] = definition(with_bytes, None, BYTE_LEVEL, decoder=BYTE_LEVEL)
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 1}
    for name, model in {"": unigram(), "-bytes": unigram(True), "-nounk": unigram(True, False)}.items():
        result[f"unigram{name}"] = definition(model, None, METASPACE, decoder=sequence(
            "decoders", {"type": "ByteFallback"}, METASPACE), special=["<unk>", "<s>", "</s>"], added=ADDED)
    replaced = {"ﬁ": "fi", "①": "1", "é": "e\u0301", "ＡＢ": "AB", "\u00a0": " ", "\u0301": "", "\t": " ", "が": "か", "ü": "u"}
    precompiled = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(replaced)).decode()}
    squeeze = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    result["t5"] = definition(unigram(), sequence("normalizers", precompiled, squeeze),
                              sequence("pretokenizers", {"type": "WhitespaceSplit"}, METASPACE), decoder=METASPACE,
                              special=["<unk>", "<s>", "</s>"])
    result["strip-per-token"] = definition(bpe(), None, None, decoder=sequence("decoders", strip, {"type": "Fuse"}))
    result["strip-whole"] = definition(bpe(), None, None, decoder=sequence(
        "decoders", {"type": "Replace", "pattern": {"Regex": "[aeiou]+"}, "content": "*"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 2, "stop": 2}))
    return result
