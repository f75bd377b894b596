#!/usr/bin/env python3
"""Autobahn's cases for servers, by kosoku; prints as JSON how they ended.

    autobahn.py URL [CASES ...]

`CASES` are ids or globs such as `12.*`; all without any. Printed: `cases`, how many of each `behavior` and of
each `close`, and what went wrong.
"""

import asyncio
import collections
import json
import sys

from kosoku import FailureError, run_fuzzingclient


async def main(url, cases):
    try:
        results = await run_fuzzingclient(url, cases or None, concurrency=2)
    except FailureError as failure:
        results = failure.results
    wrong = [
        {
            "case": result.case_id,
            "behavior": result.behavior.value,
            "close": result.behavior_close.value,
        }
        for result in results
        if result.behavior.value not in ("OK", "INFORMATIONAL")
        or result.behavior_close.value not in ("OK", "INFORMATIONAL")
    ]
    counts = collections.Counter(result.behavior.value for result in results)
    closes = collections.Counter(result.behavior_close.value for result in results)
    print(json.dumps({"cases": len(results), "behavior": counts, "close": closes, "wrong": wrong}))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
