# ruff: noqa: E501 - a text a line
"""Texts on which a fast engine must agree with the reference before it is used."""

from __future__ import annotations

_SCRIPTS = (
    "The quick brown fox jumps over the lazy dog. I'LL, we've, they'd; don't DON'T 'S 's's 'ſ K\u212aelvin ß ẞ ﬁ ǅ Ǆ.",
    "Zażółć gęślą jaźń, příliš žluťoučký kůň; Đặng Thị Hương — naïve café, cafe\u0301, A\u030angstro\u0308m.",
    "Съешь же ещё этих мягких французских булок. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Հայերեն ქართული ենა",
    "いろはにほへと ちりぬるを。カタカナ・ﾊﾝｶｸ、漢字かな交じり文「引用」！？ 我能吞下玻璃而不伤身体。𠮷野家 다람쥐 헌 쳇바퀴에",
    "नमस्ते दुनिया, क्षत्रिय; สวัสดีชาวโลกภาษาไทยไม่มีเว้นวรรค မင်္ဂလာပါ ខ្មែរ தமிழ் മലയാളം తెలుగు አማርኛ བོད་ཡིག",
    "שָׁלוֹם עוֹלָם, مرحبا بالعالم، السَّلَامُ عَلَيْكُمْ ۱۲۳ ١٢٣ \u200f\u202b\u2067mixed\u2069\u202c",
    "🤦🏽\u200d♂️👩\u200d👩\u200d👧\u200d👦 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f ❤️❤ 🇩🇪🇯🇵 ☃\ufe0e 🫠🪿\U0001fae9",
)
_CODE = (
    'def f(x: int) -> str:\n\treturn f\'{x!r:>{10}}\'  # ok\n\n\nclass A(B):\n    """doc"""\n\r\n        pass\n    \n  ',
    '#include <stdio.h>\r\nint main(void){printf("%d\\n",1<<3);return 0;}\r\n\r\n/// // ///\n//\n/*/\n*//\r/\n!!!\n\n/x',
    '{"a": [1, 22, 333, 4444, 55555, 666666.7777e-8], "b": null, "aBcDeFGHiJ": "HTTPServerError2XX"}\n',
    "https://example.org/a/b?c=d&e=%20f#g user@example.com 192.168.0.1 2001:db8::1 C:\\dir\\file.txt ~/x/.y $PATH && || <=>",
)
_ODDITIES = (
    "",
    " ",
    "\n",
    "  \n  ",
    "a  \n\n \t\n   ",
    "x \n y\r\n\r z\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029\xa0\u3000\u200b\ufeffend",
    "\x00\x01\x7f\x80\x9f\ufffd\uffff\U0010ffff\ue000",
    "0 00 000 0000 00000 ⅷ Ⅷ ²³¼ ①② १२३४ 7\u0660" + "1234567890" * 12,
    "'" * 40 + "s" + "'ll" * 20 + "'LL'Re'vE'D" + "x'y" * 10 + "!a!!b!!!c",
    "<|endoftext|><|fim_prefix|>x<|im_start|>user<|endofprompt|> <s></s>[INST]<unk><pad>▁Ġ ▁▁<0x0A>",
    " " * 300 + "x" + "\t" * 200 + "\n" * 150 + " \n" * 100 + "\r\n" * 50 + "   y    ",
    "a" * 400
    + "A" * 300
    + "的" * 200
    + "!" * 200
    + "=" * 300
    + "-" * 150
    + "é" * 100
    + "e\u0301" * 100
    + "\u0301" * 50,
    "aBaBABabAB的aB的A的的Ba的́ʰaʰAʰ" * 10,
)

#: Scripts, code, white space, digits, emoji, contractions, long runs, what looks like special tokens.
PROBE_TEXTS: tuple[str, ...] = (*_SCRIPTS, *_CODE, *_ODDITIES, "\n".join((*_SCRIPTS, *_CODE, *_ODDITIES)))
