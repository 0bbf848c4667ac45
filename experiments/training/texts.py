"""English sentences."""

import pathlib
import pydoc_data.topics
import random
import re

from jaxticket.errors import InputError


def sample(file: pathlib.Path | None, count: int, *, seed: int) -> list[str]:
    """Return different sentences: the lines of a file, or some of Python's documentation.

    Raises InputError if there are too few.
    """
    if file is None:
        prose = " ".join(" ".join(text.split()) for text in pydoc_data.topics.topics.values())
        sentences = re.findall(r"(?<=[.] )[A-Z][a-z][a-zA-Z ,;-]{40,160}[.](?= )", prose)
    else:
        try:
            sentences = [line.strip() for line in file.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeError) as error:
            raise InputError(f"--text {file} cannot be read: {error}") from error
    sentences = sorted(set(sentences))
    if len(sentences) < count:
        raise InputError(f"--sentences is {count}, but there are {len(sentences)}; ask for fewer, or give --text")
    return random.Random(seed).sample(sentences, count)
