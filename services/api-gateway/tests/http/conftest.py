# SPDX-License-Identifier: Apache-2.0
"""Every test of this folder runs on uvloop and on asyncio's own loop; `http_serving` lies beside them."""

import asyncio
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent))


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
