"""Encrypts what must not be stored in clear: the users' tokens in journalled requests (AES-256-GCM)."""

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Sealer"]

_NONCE_BYTES = 12
_KEY_FILE = ".journal-key"


class Sealer:
    """Encrypts and decrypts with one key.

    Parameters
    ----------
    secret
        The input of the key: 32 random bytes, or a text that is as strong.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(hashlib.sha256(b"cellworker journal\0" + secret).digest())

    @classmethod
    def of(cls, journal_key: str, data_dir: Path) -> "Sealer":
        """Use the given key, or this pod's own.

        The pod's own is made once and is in the data folder, readable by its owner alone: it outlives the container
        but not the pod, like the pod's volume. With it only the pod's restarted container can open
        what the pod has sealed.

        Raises
        ------
        OSError
            When the key file can be neither read nor made.
        """
        if journal_key:
            return cls(journal_key.encode())
        path = data_dir / _KEY_FILE
        data_dir.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
        except FileExistsError:
            pass
        secret = path.read_bytes()
        if len(secret) < 32:  # the process that made it died before it wrote
            secret = secrets.token_bytes(32)
            path.write_bytes(secret)
        return cls(secret)

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt; the same context is needed to open it again."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes | None:
        """Decrypt; None when it was sealed with another key or context, or was changed."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            return None
