"""How sure a count of successes makes us of a rate: Wilson's score interval (J. Am. Stat. Assoc. 22, 1927).

(p̂ + z²/2n ± z·√(p̂(1 - p̂)/n + z²/4n²)) / (1 + z²/n)
"""

import math

__all__ = ["wilson"]

Z_95 = 1.959963984540054


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The rates in [0, 1] that `successes` of `trials` leave likely, 95 % by default; (0, 1) for no trials.

    Raises ValueError unless 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials can't be: give 0 <= successes <= trials.")
    if not trials:
        return 0.0, 1.0
    rate, spread = successes / trials, z * z / trials
    middle = rate + spread / 2
    reach = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    # At 0 and at all the formula gives the bound exactly; rounding must not put it just outside.
    low = 0.0 if successes == 0 else (middle - reach) / (1 + spread)
    high = 1.0 if successes == trials else (middle + reach) / (1 + spread)
    return low, high
