"""Half-spaces of the noise on which one token beats another: sums over pairs, overlaps."""
