"""Which licence a file is, by the words that only that licence has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md",
          "COPYING", "license.txt")
_LARGEST_BYTES = 256 * 1024
_TAG = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+-]{1,64})")
# Licences of GNU speak of non-commercial distribution and restrict nothing by it.
_RESTRICTED = re.compile(r"\bnon-? ?commercial\b|research (use )?only|not for commercial")
# The first whose words are all there; narrower ones stand before wider ones.
_WORDS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("CC-BY-NC-SA-4.0", ("creative commons", "attribution-noncommercial-sharealike 4.0")),
    ("CC-BY-NC-ND-4.0", ("creative commons", "attribution-noncommercial-noderivatives 4.0")),
    ("CC-BY-NC-4.0", ("creative commons", "attribution-noncommercial 4.0")),
    ("CC-BY-SA-4.0", ("creative commons", "attribution-sharealike 4.0")),
    ("CC-BY-ND-4.0", ("creative commons", "attribution-noderivatives 4.0")),
    ("CC-BY-4.0", ("creative commons", "attribution 4.0 international")),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3")),
    ("GPL-3.0-only", ("gnu general public license", "version 3")),
    ("GPL-2.0-only", ("gnu general public license", "version 2")),
    ("MPL-2.0", ("mozilla public license", "2.0")),
    ("Apache-2.0", ("apache license", "version 2.0", "terms and conditions")),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms", "binary form must")),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software",)),
    ("MIT", ("permission is hereby granted, free of charge", "without restriction")),
)


def licence_beside(folder: Path) -> tuple[str, str]:
    """The SPDX name of the licence file in a folder, and the file; empty where none is known.

    A file with the words of several licences is none that could be told from its text: a
    non-commercial or other addition to a known text makes another licence of it.
    """
    for name in _NAMES:
        path = folder / name
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
                continue
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        return spdx_of(text), name
    return "", ""


def spdx_of(text: str) -> str:
    """The SPDX name of a licence by its text; empty when it is none of the known ones."""
    tagged = _TAG.search(text)
    if tagged:
        return tagged[1]
    plain = " ".join(re.sub(r"[^a-z0-9.,/ -]", " ", text.lower()).split())
    found = next((name for name, words in _WORDS if all(one in plain for one in words)), "")
    if _RESTRICTED.search(plain) and "-NC-" not in found and not found.endswith("-only"):
        return ""
    return found
