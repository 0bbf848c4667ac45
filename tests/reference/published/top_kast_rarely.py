"""Top-KAST whose sets are chosen every few updates."""

from tests.reference.published import top_kast

ABOUT = {
    **top_kast.ABOUT,
    "method": "top_kast",
    "settings": {"density": 0.25, "backward": 0.5, "weight_decay": 0.1, "every": 5},
}
run = top_kast.run
