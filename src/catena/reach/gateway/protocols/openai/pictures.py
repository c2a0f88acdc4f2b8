"""Images in a request: by value only, as a data: URL. Nothing is ever fetched."""

from __future__ import annotations

import base64
import binascii
import re

from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import Image

_DATA = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,", re.IGNORECASE)


def picture(url: str, where: str) -> Image:
    """The image that `url` holds. Raises UnsupportedError for an address, InputError for what is no image."""
    head = _DATA.match(url)
    if head is None:
        hint = "send it as data:image/png;base64,… (png, jpeg, gif or webp)"
        if url.startswith("data:"):
            raise InputError(f"{where}: this is not an image", param=where, hint=hint)
        raise UnsupportedError(f"{where}: images are not fetched", param=where, hint=hint)
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{where}: not base64", param=where) from None
    if not data:
        raise InputError(f"{where}: the image is empty", param=where)
    return Image(data, head[1].lower())
