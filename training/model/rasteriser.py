"""Draws an SVG from standard input as a PNG on standard output: a program of its own, so that it can be bounded.

Whatever a drawing has in store, such as parts that repeat parts that repeat parts, ends with this process.
"""

import resource
import sys

__all__: list[str] = []

_SECONDS = 2  # of a processor
_MEMORY = 1 << 30  # bytes


def _main() -> int:
    for kind, limit in ((resource.RLIMIT_CPU, _SECONDS), (resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (limit, limit))
    import resvg_py

    try:
        picture = resvg_py.svg_to_bytes(svg_string=sys.stdin.buffer.read().decode(), skip_system_fonts=True)
    except BaseException as error:  # panics of Rust are no Exception
        sys.stderr.write(" ".join(str(error).split()))
        return 1
    sys.stdout.buffer.write(picture)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
