"""Event streams, WebSockets, long polls and the hub of Wharf, for plugins made by componentize-py.

    from wharf_sdk import hub, sse, websocket

Each module needs the interfaces of its name in the plugin's world (`hub` and `hub-async`, `sse` and
`sse-async`, `websocket` and `websocket-async`), and `exchange`; a module that is not imported needs none.
"""

from .errors import WharfError

__all__ = ["WharfError"]
