"""The cases, one file for each part of the protocol; `ALL` has every one by its name.

A case is a function of a `Talk` (see ../talk.py). Its name is that of its topics and groups, so
cases can share a broker.
"""

import importlib

# In the order in which they run; `fresh` looks at a broker without topics.
FILES = ["fresh", "topics", "produce", "fetch", "groups", "offsets", "transactions", "configs",
         "cluster", "security", "consumer_groups", "share"]
ALL = {}


def case(function):
    name = f"{function.__module__.rsplit('.', 1)[1]}-{function.__name__}".replace("_", "-")
    assert name not in ALL, name
    ALL[name] = function
    return function


for file in FILES:
    importlib.import_module(f"{__name__}.{file}")
