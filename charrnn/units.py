"""Units of surprise."""

import math


def in_bits(nats: float) -> float:
    """Surprise in bits, given in nats."""
    return nats / math.log(2)
