"""The encodings of R's strings."""

import codecs

__all__ = ["BYTES", "LATIN1", "UTF8", "decode", "is_utf8", "native_codec"]

BYTES, LATIN1, UTF8 = 2, 4, 8
_KNOWN = frozenset(
    [
        "ascii",
        "utf-8",
        "big5",
        "euc_jp",
        "euc_kr",
        "gb18030",
        "gb2312",
        "gbk",
        "koi8-r",
        "koi8-u",
        "shift_jis",
        "cp874",
        "cp932",
        "cp936",
        "cp949",
        "cp950",
    ]
    + [f"iso8859-{i}" for i in range(1, 17)]
    + [f"cp{i}" for i in range(1250, 1259)]
)


def native_codec(name: str) -> str:
    """Return Python's name for the encoding that a version 3 file declares; ``utf-8`` when unknown or ASCII."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return "utf-8"
    return found if found in _KNOWN and found != "ascii" else "utf-8"


def is_utf8(codec: str) -> bool:
    """Say whether unmarked text needs no conversion."""
    return codec == "utf-8"


def decode(content: bytes, levels: int, native: str) -> str:
    """Decode one string by the marks in its flag word; `native` is the codec of unmarked text.

    Files from Windows mark code page 1252 as Latin-1, so its letters are tried first. What is not text in the encoding
    it claims keeps what can be read.
    """
    if levels & LATIN1:
        return _latin(content)
    if levels & UTF8:
        return content.decode("utf-8", "replace")
    if levels & BYTES:
        return content.decode("utf-8", "backslashreplace")
    if native != "utf-8":
        return content.decode(native, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return _latin(content)


def _latin(content: bytes) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")
