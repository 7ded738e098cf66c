"""Reads what weir-bench wrote with a HdrHistogram that is not its own (PyPI: hdrhistogram).

Arguments: the .hgrm, a file with the encoded histogram, a file with the raw samples in nanoseconds, one a line.
"""

import io
import sys

from hdrh.histogram import HdrHistogram

MILLISECOND = 1e6
PRECISION = 0.001


def rows_and_foot(text):
    rows, foot = [], {}
    lines = text.splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"], lines[0]
    for line in lines[1:]:
        if line.startswith("#["):
            for pair in line[2:-1].split(","):
                name, value = pair.split("=")
                foot[name.strip()] = float(value)
        elif line.strip():
            rows.append([float(field) for field in line.split()])
    return rows, foot


def near(found, wanted, what):
    assert abs(found - wanted) <= PRECISION * abs(wanted) + 1e-6, f"{what}: {found}, not {wanted}"


hgrm, encoded, raw = (open(path, encoding="ascii").read() for path in sys.argv[1:4])
samples = sorted(int(line) for line in raw.split())
rows, foot = rows_and_foot(hgrm)
histogram = HdrHistogram.decode(encoded)

# The encoded histogram is the samples.
assert histogram.get_total_count() == len(samples), histogram.get_total_count()
for percentile in (0, 10, 50, 90, 99, 99.9, 100):
    rank = max(0, -(-len(samples) * percentile // 100) - 1)
    near(histogram.get_value_at_percentile(percentile), samples[int(rank)], f"encoded, {percentile} %")

# Each row of the .hgrm says what the other histogram has counted, and stands at the first value that reaches its percentile. Its own
# output takes other steps, so rows are not compared one by one.
up_to, below = {}, {}
total = 0
for step in histogram.get_recorded_iterator():
    value = histogram.get_highest_equivalent_value(step.value_iterated_to)
    below[value], total = total, step.total_count_to_this_value
    up_to[value] = total
assert len(rows) > 20, len(rows)
for value, quantile, count, *inverse in rows:
    value = round(value * MILLISECOND)
    assert count == up_to[value], (value, count, up_to[value])
    assert below[value] - 1e-6 <= quantile * total <= count + 1e-6, (value, quantile, count)
    assert inverse == [] if quantile == 1 else abs(inverse[0] - 1 / (1 - quantile)) <= 0.005 + 1e-9, (quantile, inverse)
assert rows[-1][1:] == [1.0, len(samples)], rows[-1]

theirs = io.BytesIO()
histogram.output_percentile_distribution(theirs, MILLISECOND)
_, their_foot = rows_and_foot(theirs.getvalue().decode())
near(foot["Mean"] * MILLISECOND, sum(samples) / len(samples), "mean")
near(foot["StdDeviation"] * MILLISECOND, histogram.get_stddev(), "deviation")
near(foot["Max"] * MILLISECOND, samples[-1], "maximum")
assert foot["Total count"] == len(samples), foot
assert foot["Buckets"] == their_foot["Buckets"] and foot["SubBuckets"] == their_foot["SubBuckets"], (foot, their_foot)
print(f"{len(rows)} rows of {len(samples)} samples agree")
