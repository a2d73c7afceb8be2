"""The benchmark: the same foreign clients against Odradek and Apache Kafka, interleaved.

`run` is the command; `contestants` starts the servers, `sink` one that does nothing, `clients` runs
the foreign programs, `loads` is the table of what they do, `race` puts them on each in turn,
`measuring` looks at the server's process meanwhile, `floors` holds what the figures must reach,
`table` writes them down. `slow_flush` makes the servers' disk a slower one. `growth` is what the
suite of that name measures.
"""
