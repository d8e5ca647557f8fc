"""Names of the same kind of thing in the Sketchy Database, "Quick, Draw!" and ImageNet.

Training on a class that an evaluation holds out under another name would give the evaluation away.
"""

from collections.abc import Collection

__all__ = ["other_classes"]

# Sketchy's name, then names elsewhere of the same thing, or of a kind of it, or of what it is a kind of.
_SAME = (
    {"alarm clock", "clock"},
    {"ape", "monkey"},
    {"bear", "panda", "teddy bear"},
    {"bird", "songbird", "seagull", "wading bird", "flamingo", "swan", "parrot", "owl", "duck", "chicken", "penguin"},
    {"cabin", "house", "barn"},
    {"car (sedan)", "car", "police car", "van", "pickup truck", "truck"},
    {"couch", "sofa"},
    {"crab", "hermit crab"},
    {"crocodilian", "crocodile", "alligator"},
    {"cup", "mug", "coffee cup"},
    {"hot air balloon", "balloon"},
    {"hotdog", "hot dog"},
    {"jack o lantern", "pumpkin"},
    {"motorcycle", "motorbike"},
    {"pistol", "rifle"},
    {"racket", "tennis racquet"},
    {"sailboat", "sailing boat", "yacht"},
    {"sea turtle", "turtle"},
    {"shoe", "flip flops"},
    {"tree", "palm tree"},
    {"wine bottle", "bottle"},
)


def other_classes(names: Collection[str], known: Collection[str]) -> list[str]:
    """Those of ``names`` that are no class of ``known``, whatever they are called; sorted.

    Spaces, hyphens and underscores are the same, and so are capital and small letters.
    """
    taken = {_plain(name) for name in known}
    taken = taken.union(*(group for group in _SAME if group & taken))
    return sorted(name for name in names if _plain(name) not in taken)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())
