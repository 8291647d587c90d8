"""Numbers of levels, by how many tokens they make."""

from __future__ import annotations


def level_tuples(
    n: int, budget: int, most: int, floor: float, enough: int
) -> list[tuple[int, ...]]:
    """Descending tuples of n level counts, each at least 2, with a product in [floor, budget].

    No count is above `most`. Stops where more than `enough` tuples were found.

    Example:
        >>> level_tuples(2, 12, 8, 11.0, 100)
        [(6, 2), (4, 3)]
    """
    found: list[tuple[int, ...]] = []

    def extend(chosen: tuple[int, ...], product: int, largest: int) -> None:
        left = n - len(chosen)
        if left == 0:
            if product >= floor:
                found.append(chosen)
            return
        if product * largest**left < floor or len(found) > enough:
            return
        for count in range(min(largest, budget // (product * 2 ** (left - 1))), 1, -1):
            if product * count**left < floor:
                break
            extend((*chosen, count), product * count, count)

    extend((), 1, most)
    return found
