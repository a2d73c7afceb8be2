"""A market that can be computed: 100 symbols that trade around the clock, every number of theirs a
function of symbol and tick. It feeds the sources, and says by pandas what has to come out.

A week of it passes in an hour: event time runs 168 times as fast as the clock. It is a week of the
past (windows refuse the future), so whatever the broker keeps by time must not go by these times:
the topics are stamped with the time of arrival (LogAppendTime), and every period of theirs is
divided by 168 as well.
"""

import base64

import numpy
import pandas

from . import yahoo

SPEED = 168
STEP_MS = 10_000  # of event time, between two ticks of one symbol
MINUTE_MS = 60_000
DAY_MS = 86_400_000
BEGIN_MS = 1_736_121_600_000  # 2025-01-06, a Monday, 00:00 UTC
# Yahoo's running volume begins anew with New York's day, which in January begins at 05:00 UTC.
SESSION_MS = 5 * 3_600_000


def scaled_ms(event_ms):
    """The time on the clock in which so much event time passes."""
    return event_ms // SPEED


class Market:
    """`total` is what Yahoo calls dayVolume. Prices are quarters: exact as 32-bit floats."""

    def __init__(self, symbols, minutes):
        self.symbols, self.minutes = symbols, minutes
        self.steps = minutes * MINUTE_MS // STEP_MS
        self.names = [f"S{index:03}" for index in range(symbols)]
        self.index = {name: index for index, name in enumerate(self.names)}
        symbol, step = numpy.ogrid[:symbols, :self.steps]
        noise = (symbol * 40_503 + step * 2_654_435_761) % 4_294_967_296 >> 8
        # A tick of each symbol at the same instant, but for a millisecond from one to the next.
        self.time_ms = BEGIN_MS + step * STEP_MS + symbol
        self.price = 100 + symbol + (step // 360 % 80 + noise % 40) * 0.25
        self.volume = 1 + noise % 97
        self.total = self.running_totals()

    def running_totals(self):
        sums = self.volume.cumsum(axis=1)
        days = (self.time_ms[0] - SESSION_MS) // DAY_MS
        before = numpy.zeros_like(sums)
        for step in numpy.flatnonzero(numpy.diff(days)) + 1:
            before[:, step:] = sums[:, step - 1:step]
        return sums - before

    @property
    def ticks(self):
        return self.symbols * self.steps

    def tick(self, symbol, step):
        """(event time, price, volume, running total), as Python's numbers."""
        return (BEGIN_MS + step * STEP_MS + symbol, self.price.item(symbol, step),
                self.volume.item(symbol, step), self.total.item(symbol, step))

    def part(self, first, count):
        return Part(self, range(first, first + count))

    def bars(self, part):
        """Bars of a part's symbols as numpy arrays [symbol, minute], by pandas. The first reading
        of a running total tells no volume."""
        rows = slice(part.symbols.start, part.symbols.stop)
        volume = self.volume[rows].copy()
        if part.running:
            volume[:, 0] = 0
        times = self.time_ms[rows]
        frame = pandas.DataFrame({
            "symbol": numpy.repeat(numpy.arange(len(part.symbols)), self.steps),
            "minute": (times.ravel() - BEGIN_MS) // MINUTE_MS,
            "price": self.price[rows].ravel(), "volume": volume.ravel(),
        })
        bars = frame.groupby(["symbol", "minute"]).agg(
            open=("price", "first"), high=("price", "max"), low=("price", "min"),
            close=("price", "last"), volume=("volume", "sum"), ticks=("price", "size"))
        shape = (len(part.symbols), self.minutes)
        return {name: bars[name].to_numpy(float).reshape(shape) for name in bars}


class Part:
    """The symbols of one source."""

    def __init__(self, market, symbols):
        self.market, self.symbols, self.running = market, symbols, False

    @property
    def names(self):
        return [self.market.names[symbol] for symbol in self.symbols]

    @property
    def ticks(self):
        return len(self.symbols) * self.market.steps

    @property
    def ticks_a_second(self):
        """On the clock."""
        return len(self.symbols) * SPEED * 1000 / STEP_MS

    def order(self, first, end):
        """(symbol, step) of the ticks with these numbers, in the order of event time."""
        for number in range(first, min(end, self.ticks)):
            step, at = divmod(number, len(self.symbols))
            yield self.symbols[at], step

    def write_csv(self, path):
        with open(path, "w") as out:
            out.write("symbol,timestamp,price,size\n")
            for symbol, step in self.order(0, self.ticks):
                time_ms, price, volume, _ = self.market.tick(symbol, step)
                out.write(f"{self.market.names[symbol]},{time_ms},{price},{volume}\n")

    def frames(self):
        """For the played Yahoo. Its documents have the day's volume instead of the tick's."""
        self.running = True
        return Frames(self)


class Frames:
    """Yahoo's frames, a ping's worth at a time, made when they are asked for: a week of them does
    not fit into memory."""

    def __init__(self, part):
        self.part = part

    def __len__(self):
        return -(-self.part.ticks // yahoo.FRAMES_PER_PING)

    def __getitem__(self, number):
        first = number * yahoo.FRAMES_PER_PING
        return b"".join(
            self.frame(symbol, step)
            for symbol, step in self.part.order(first, first + yahoo.FRAMES_PER_PING))

    def frame(self, symbol, step):
        time_ms, price, _, total = self.part.market.tick(symbol, step)
        data = yahoo.pricing_data(self.part.market.names[symbol], time_ms, price, total)
        return yahoo.frame(yahoo.TEXT, base64.b64encode(data))
