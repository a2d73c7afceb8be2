"""Can two samples of times be told apart? By ranks, which no outlier moves."""

import math

import numpy

# Two-sided, P(|z| > 5.33) = 1e-7: with ten comparisons a run, a false alarm comes once in a
# million runs.
Z_MAX = 5.33


def mann_whitney_z(first, second):
    """How far the ranks of the two samples are from equal, in standard deviations (Mann and Whitney
    1947, normal approximation with the correction for ties); above 0: the first is larger."""
    first, second = numpy.asarray(first, float), numpy.asarray(second, float)
    both = numpy.concatenate([first, second])
    n, m, total = len(first), len(second), len(both)
    _, inverse, counts = numpy.unique(both, return_inverse=True, return_counts=True)
    # The mean rank of equal values.
    ranks = (numpy.cumsum(counts) - (counts - 1) / 2)[inverse]
    u = ranks[:n].sum() - n * (n + 1) / 2
    ties = (counts.astype(float) ** 3 - counts).sum()
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    return (u - n * m / 2) / math.sqrt(variance)


def smallest_share_found(first, second):
    """The smallest difference, in percent of the median, that `Z_MAX` would have found in these
    very samples: the first, made longer by so much, against the second."""
    first, median = numpy.asarray(first, float), float(numpy.median(first))
    for percent in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100):
        if mann_whitney_z(first + median * percent / 100, second) > Z_MAX:
            return percent
    return math.inf
