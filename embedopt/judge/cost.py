"""What does it cost?"""


def dollars_per_million(texts_per_s: float, price_per_hour: float) -> float:
    """Return dollars for a million texts on a machine of ``price_per_hour`` dollars that is kept busy."""
    return price_per_hour / 3600 / texts_per_s * 1e6
