"""Event streams, WebSockets, long polls, the hub and the cache of Wharf, for plugins made by componentize-py.

    from wharf_sdk import cache, hub, sse, websocket

Each module needs the interfaces of its name in the plugin's world (`cache`, `hub` and `hub-async`, `sse` and
`sse-async`, `websocket` and `websocket-async`), and `exchange`; a module that is not imported needs none.
"""

from .errors import WharfError

__all__ = ["WharfError"]
