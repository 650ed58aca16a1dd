"""Real MySQL shards and a real TiDB on this machine."""

from migrate.sandbox.errors import SandboxError
from migrate.sandbox.sandbox import Address, Description, Sandbox
from migrate.sandbox.server import Server, ServerStatus

__all__ = ["Address", "Description", "Sandbox", "SandboxError", "Server", "ServerStatus"]
