"""Which names of the service are accepted in the Host header.

An untrusted web page can make its own host name resolve to 127.0.0.1 (DNS rebinding). For a browser, the page and
the service then have the same origin, and nothing but the name in the Host header distinguishes its requests.
"""

import ipaddress
import re
import socket

from fastfcn.serving.settings import Settings

HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:@/\[\]]+)(?::\d{1,5})?")


class AllowedHosts:
    """The accepted names of a service.

    These are the names given with `--allowed-host`, and otherwise: with a token, all, since an untrusted page does not
    know it; without, localhost, IP addresses (which cannot be rebound) and the name or address that it listens on; if
    other machines can reach it, also this machine's own name.
    """

    def __init__(self, settings: Settings):
        names = {"localhost", settings.host, *settings.hosts}
        if not settings.is_local:
            names |= {socket.gethostname(), socket.getfqdn()}
        self.names = {_plain(name) for name in names if name}
        self.all = "*" in settings.hosts or (bool(settings.token) and not settings.hosts)

    def __contains__(self, header: str) -> bool:
        """Whether a Host header, a name with or without a port, is accepted. An empty one is not from a browser."""
        if self.all or not header:
            return True
        match = HOST.fullmatch(header)
        if not match:
            return False
        name = _plain(match[1])
        return name in self.names or name.endswith(".localhost") or _is_address(name)


def _plain(name: str) -> str:
    return name.lower().strip("[]").removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
