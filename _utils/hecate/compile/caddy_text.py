"""Text of the pillar -> text for Caddy, which fills {placeholders} almost everywhere it takes text.

Only placeholders of the request and its answer are left as such. Every other brace (JSON, CSS, whatever
would name a file or Caddy's environment) is escaped, and comes out as it was written.
"""

from __future__ import annotations

import re

FILLED = re.compile(r"\{(?:http\.(?:request|error|response|reverse_proxy|regexp)\.|time\.now)[^{}\\]*\}")
STATUS = "{http.error.status_code}"


def verbatim(text: str) -> str:
    """No placeholder at all."""
    return text.replace("{", r"\{").replace("}", r"\}")


def filled(text: str) -> str:
    """With the request's placeholders."""
    parts, rest = FILLED.findall(text), FILLED.split(text)
    return "".join(verbatim(between) + part for between, part in zip(rest, [*parts, ""], strict=True))


def page(text: str, status: str = STATUS) -> str:
    """A page of the pillar; the model lets it name nothing but status and request id.

    status: what stands for the status where there is no error of Caddy's to name it.
    """
    return filled(text).replace(STATUS, status)


def read_by_caddy(text: str) -> str:
    """env:NAME -> {env.NAME}, file:/path -> {file./path}: the value never leaves Caddy's machine. Else as it is."""
    kind, found, rest = text.partition(":")
    return f"{{{kind}.{rest}}}" if found and kind in ("env", "file") else text
