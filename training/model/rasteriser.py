"""Draws an SVG as a PNG, here or as a program of its own, from standard input to standard output.

Whatever a drawing has in store, such as parts that repeat parts that repeat parts, must end with the process that draws
it. The program has limits for that.
"""

import resource
import sys

__all__ = ["rasterise"]

_SECONDS = 2  # of a processor
_MEMORY = 1 << 30  # bytes


def rasterise(text: str) -> bytes:
    """Draws an SVG as a PNG in this process, which must have limits of time and memory and may crash.

    Raises:
        ValueError: if it cannot be drawn.
    """
    import resvg_py

    try:
        return bytes(resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True))
    except BaseException as error:  # panics of Rust are no Exception
        raise ValueError(" ".join(str(error).split())) from error


def _main() -> int:
    for kind, limit in ((resource.RLIMIT_CPU, _SECONDS), (resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (limit, limit))
    try:
        picture = rasterise(sys.stdin.buffer.read().decode())
    except ValueError as error:
        sys.stderr.write(str(error))
        return 1
    sys.stdout.buffer.write(picture)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
