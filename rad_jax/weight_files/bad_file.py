"""What is wrong with a file, and names out of it in a line."""


class BadFile(Exception):
    """What is wrong with a file, in words that follow its name."""


def shown(name: object) -> str:
    """A name from a hostile file, fit for a terminal."""
    # Of anything else, which may be huge or hold itself, only the kind.
    if type(name) is not str:
        return f"a {type(name).__name__}"
    text = ascii(name[:81])[1:-1]
    return text if len(text) <= 80 else f"{text[:80]}..."
