"""Deterministic text for the tokenizer's tests: many scripts, code, emoji, marks, spaces, special tokens.

Everything is written for this purpose or drawn from Unicode's blocks with a fixed seed.
"""
import random
import unicodedata

SENTENCES = {
    "latin": [
        "The curve falls fast at first, then slowly; what is repeated stays.",
        "He didn't say they'd've known, but I'm sure she'll ask what we're doing: it's THEIRS, THEY'LL SAY.",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich - für 3,50 €.",
        "L'élève naïf a mangé des œufs à Noël; ça coûtait déjà 1 234,56 francs.",
        "Příliš žluťoučký kůň úpěl ďábelské ódy. Đường phố Hà Nội đông người quá!",
        "İstanbul'da ılık bir gün; ĲSSEL, straße, ſpecial, ǅ and the ﬁne ligatures ﬄ.",
    ],
    "greek": ["Η λήθη έρχεται γρήγορα στην αρχή και ύστερα αργά.", "Ἄνδρα μοι ἔννεπε, Μοῦσα, πολύτροπον."],
    "cyrillic": ["Память слабеет сначала быстро, потом всё медленнее.", "Їжак з'їв ґрушку; ёлка ещё зелёная, №5."],
    "armenian": ["Հիշողությունը թուլանում է ժամանակի ընթացքում։"],
    "georgian": ["მეხსიერება დროთა განმავლობაში სუსტდება. ᲛᲗᲐᲕᲠᲣᲚᲘ"],
    "hebrew": ["הזיכרון דועך מהר בהתחלה ואחר כך לאט.", "בְּרֵאשִׁית בָּרָא אֱלֹהִים"],
    "arabic": ["يتلاشى التذكر بسرعة في البداية ثم ببطء، ١٢٣٤٥.", "اَلْحَمْدُ لِلّٰهِ ـــ ﷺ", "یادداشت فارسی: می‌خواهم ۱۲۳"],
    "devanagari": ["स्मृति पहले तेज़ी से और फिर धीरे-धीरे घटती है। १२३४", "क्षत्रिय ज्ञान श्रृंखला"],
    "bengali": ["স্মৃতি প্রথমে দ্রুত কমে, পরে ধীরে।"],
    "tamil": ["நினைவு முதலில் வேகமாக மங்குகிறது."],
    "thai": ["ความจำเลือนหายไปอย่างรวดเร็วในตอนแรก ๑๒๓"],
    "ethiopic": ["ትውስታ በመጀመሪያ በፍጥነት ይጠፋል።"],
    "han": ["记忆起初消退得很快，后来变慢。", "遺忘曲線：一九八五年，１２３４５，「艾賓浩斯」。", "𠀀𠮷𪚥 rare ideographs"],
    "kana": ["記憶は最初は速く、その後ゆっくりと薄れていきます。", "カタカナ・ヴァイオリン、ﾊﾝｶｸ、がぎぐ"],
    "hangul": ["기억은 처음에는 빠르게, 나중에는 천천히 사라집니다.", "\u1112\u1161\u11ab\u1100\u1173\u11af 한글"],
    "emoji": ["👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ☕️ 1️⃣ ❤️‍🔥 🫠 🤷🏿‍♀️", "😀😃😄😁😆😅😂🤣", "ok👌done✅no❌"],
    "marks": ["e\u0301 a\u030a\u0301 o\u0323\u0302 n\u0303\u0303\u0303", "Z\u0351\u036b\u0343a\u0361l\u0489g\u0321o\u0337",
              "\u0301alone q\u0307\u0323 \u1e9b\u0323 \u212b \u2126 \u0958 \ufb2c"],
    "code": [
        "def f(x: int) -> list[int]:\n    return [i**2 for i in range(x) if i % 3 == 0]  # comment\n",
        "for (size_t i = 0; i < n; ++i) {\n\t\tsum += a[i] * b[i];\r\n\t}\r\n\r\n\r\n  return sum;",
        "SELECT id, name FROM users WHERE age >= 18 AND email LIKE '%@example.com';",
        '{"key": [1, 2.5e-10, null, true], "nested": {"a\\u00e9": "\\n"}}',
        "<div class=\"a b\">&nbsp;&amp;</div><!-- x --> $HOME/.bashrc && ls -la | grep '^d' > /dev/null 2>&1",
        "x = 3.14159265358979323846; y = 0xDEADBEEF; z = 1_000_000; s = f'{x!r:>10}'",
    ],
    "spaces": ["  two", " one", "trail ", "trail   ", "\t\ttabs\t", "a\u00a0b\u2003c\u3000d\u200be\u180ef\u1680g\ufeffh",
               "\n", "\n\n", " \n \n  x", "\r\n\r\n", "a\n\n\nb", "   \n", "\u0085next\u2028line\u2029par", "\x0b\x0c\x1c\x1f\x00\x7f",
               "a      b", "x" + " " * 100 + "y", " " * 300, "\n" * 90, "\t" * 70 + "z", "▁under▁score ▁"],
    "digits": ["0", "12", "123", "1234", "12345678901234567890", "3.14", "1,000,000.00", "²³¹¼½Ⅷ①٣", "v1.2.3-rc4", "2024-05-06T07:08:09Z"],
    "punctuation": ["...", "?!?!", "-----", "====", "'s 'S 'll 'LL 'ſ it'ſ we'Re", "!@#$%^&*()_+{}|:\"<>?`~[]\\;',./", "\u00bfqu\u00e9? \u2014 \u201cyes\u201d \u2026", "/* */ // ///", "a/b\n/c"],
}

BLOCKS = [(0x21, 0x7E), (0xA0, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58A),
          (0x591, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE5B), (0xF00, 0xFDA),
          (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137C), (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x2000, 0x206F),
          (0x2070, 0x209C), (0x20A0, 0x20BF), (0x2100, 0x218B), (0x2200, 0x22FF), (0x2500, 0x25FF), (0x3000, 0x30FF),
          (0x3100, 0x312F), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAD9), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F),
          (0xFF01, 0xFFEE), (0x10330, 0x1034A), (0x1D400, 0x1D7FF), (0x1F300, 0x1F64F), (0x1F900, 0x1F9FF), (0x20000, 0x200FF)]


# Long pieces, which test the merging more than the splitting.
LONG = ["a" * 20000, "ab" * 7000, " " * 20000, "\n" * 9000, "😀" * 3000, "記" * 5000, "0" * 9001, "́" * 4000,
        "= " * 6000, "the" * 5000, "▁" * 5000, "<" * 5000, " \n" * 5000]


def _random_word(rng, characters, longest):
    return "".join(rng.choice(characters) for _ in range(rng.randint(1, longest)))


def lines(count, special, seed=7):
    """At least `count` distinct lines; `special` are spellings of added tokens to strew in."""
    rng = random.Random(seed)
    sentences = [s for group in SENTENCES.values() for s in group]
    blocks = []
    for low, high in BLOCKS:
        known = [chr(c) for c in range(low, high + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
        blocks.append(known)
    everything = [c for block in blocks for c in block]
    result = dict.fromkeys([""] + sentences)
    for word in special:
        result.update(dict.fromkeys([word, " " + word, word + " ", "a" + word + "b", word + word, word[:-1], word[1:],
                                     "x  " + word + "  y", "\n" + word + "\n", "é" + word + "́"]))
    while len(result) < count:
        kind = rng.random()
        if kind < 0.25:  # words of one script
            block = rng.choice(blocks)
            text = " ".join(_random_word(rng, block, 9) for _ in range(rng.randint(1, 8)))
        elif kind < 0.35:  # anything beside anything
            text = _random_word(rng, everything, 40)
        elif kind < 0.5:  # sentences of several scripts, cut anywhere
            text = "".join(rng.choice(sentences)[rng.randint(0, 6):][: rng.randint(3, 60)] for _ in range(rng.randint(2, 4)))
        elif kind < 0.6:  # letters of few kinds: many ways to merge
            text = _random_word(rng, rng.choice(["ab", "the ", "01", "\n ", "a'sl ", "\u0301e\u0323", "▁ ", "=-", "aA", "あ亜"]), 60)
        elif kind < 0.7:  # case and apostrophes
            text = rng.choice(sentences[:6])
            text = "".join(c.upper() if rng.random() < 0.4 else c for c in text)
        elif kind < 0.8:  # spaces inside a sentence
            text = "".join(c if c != " " else rng.choice([" ", "  ", "\n", "\t", " \n", "\u00a0", "\r\n", " " * rng.randint(1, 20)])
                           for c in rng.choice(sentences))
        elif kind < 0.9 and special:  # special tokens
            words = rng.choice(sentences).split(" ")
            for _ in range(rng.randint(1, 4)):
                words.insert(rng.randint(0, len(words)), rng.choice(special))
            text = rng.choice(["", " "]).join(words)
        else:  # marks anywhere
            text = "".join(c + (rng.choice("\u0301\u0300\u0323\u0308\u0327\u093c\u3099\u0345") if rng.random() < 0.3 else "")
                           for c in rng.choice(sentences))
        result[text] = None
    return list(result)
