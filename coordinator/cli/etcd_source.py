"""A live etcd, read through its JSON gateway."""

from __future__ import annotations

import http.client
import json
import ssl
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from coordinator_sdk.protocol.auth import Access, KeyPermission

PAGE: Final = 1000
"""Keys that are asked for at first. etcd looks at all that follow for each page, so that many small
ones would take it very long; large ones are for small values only."""
PAGE_MAX: Final = 50_000
PAGE_BYTES: Final = 8 << 20
"""About as much as a page should have."""
TIMEOUT_S: Final = 30.0
_PREFIXES: Final = ("/v3", "/v3beta")


class SourceError(Exception):
    """It cannot be read."""


@dataclass(frozen=True)
class Key:
    """A key."""

    key: bytes
    value: bytes
    lease: int
    created: int


@dataclass(frozen=True)
class Lease:
    """A lease, with the time that it was granted for, and what was left of it."""

    id: int
    ttl_s: int
    left_s: int


@dataclass
class Contents:
    """What there is.

    Attributes:
        revision: The revision of the keys.
        keys: In the order in which they were created.
        leases: Those that live.
        users: Their roles, by name.
        roles: Their permissions, by name.
        warnings: What was not read, and why.
    """

    revision: int = 0
    keys: list[Key] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    users: dict[str, list[str]] = field(default_factory=dict)
    roles: dict[str, list[KeyPermission]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def next_limit(limit: int, size_bytes: int) -> int:
    """Give how many keys to ask for after a page of so many."""
    if size_bytes > PAGE_BYTES:
        return max(limit // 2, 1)
    return min(limit * 2, PAGE_MAX) if size_bytes < PAGE_BYTES // 2 else limit


class Source:
    """One endpoint.

    Args:
        url: Its client URL.
        cacert: File of who signed its certificate; the system's by default.
        cert: File of the own certificate.
        key: File of its private key.
    """

    def __init__(self, url: str, cacert: str = "", cert: str = "", key: str = "") -> None:
        parts = urlsplit(url)
        self._url = url
        self._token = ""
        self._prefix = ""
        host, port = parts.hostname or "", parts.port or 2379
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=cacert or None)
            if cert:
                context.load_cert_chain(cert, key or None)
            self._connection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def ask(self, route: str, **body: Any) -> Any:
        """Make a call.

        Raises:
            SourceError: It failed, or was refused.
        """
        if not self._prefix:
            self._prefix = self._find_prefix()
        status, answer = self._post(f"{self._prefix}/{route}", body)
        if status != 200:
            raise SourceError(f"{self._url}: {answer.get('error', status)}")
        return answer

    def _find_prefix(self) -> str:
        """Find what the paths of the gateway begin with: that changed from version to version."""
        for prefix in _PREFIXES:
            if self._post(f"{prefix}/cluster/member/list", {})[0] != 404:
                return prefix
        raise SourceError(f"{self._url}: no etcd of version 3.3 or later answers there")

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        headers = {"content-type": "application/json"}
        if self._token:
            headers["authorization"] = self._token
        try:
            self._connection.request("POST", path, json.dumps(body), headers)
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{self._url}: {str(error) or type(error).__name__}") from None
        if response.status == 404:
            return 404, {}
        try:
            return response.status, json.loads(data)
        except ValueError:
            raise SourceError(f"{self._url}: its answer is no JSON") from None

    def log_in(self, user: str, password: str) -> None:
        """Log in, if there is a user to be.

        Raises:
            SourceError: User or password are wrong.
        """
        if user:
            self._token = self.ask("auth/authenticate", name=user, password=password)["token"]

    def read(self) -> Contents:
        """Read everything, the keys all of one revision.

        Raises:
            SourceError: It cannot be read.
        """
        found = Contents()
        found.leases = self._leases()
        self._read_keys(found)
        known = {lease.id for lease in found.leases}
        late = {key.lease for key in found.keys if key.lease} - known
        found.leases += [lease for one in sorted(late) for lease in self._lease(one)]
        known = {lease.id for lease in found.leases}
        ended = [key for key in found.keys if key.lease and key.lease not in known]
        if ended:
            found.keys = [key for key in found.keys if not key.lease or key.lease in known]
            found.warnings.append(f"{len(ended)} keys are left out: their leases have ended since")
        try:
            self._read_users(found)
        except SourceError as error:
            found.users, found.roles = {}, {}
            found.warnings.append(f"users and roles are left out, they are root's to read: {error}")
        return found

    def _read_keys(self, found: Contents) -> None:
        start, end = b64encode(b"\0").decode(), b64encode(b"\0").decode()
        revision, limit = 0, PAGE
        while True:
            answer = self.ask(
                "kv/range", key=start, range_end=end, limit=str(limit), revision=str(revision)
            )
            # Every page is of the same revision, however long it takes.
            revision = revision or int(answer["header"]["revision"])
            page = [
                Key(
                    b64decode(one["key"]),
                    b64decode(one.get("value", "")),
                    int(one.get("lease", 0)),
                    int(one["create_revision"]),
                )
                for one in answer.get("kvs", ())
            ]
            found.keys += page
            if not answer.get("more"):
                break
            start = b64encode(page[-1].key + b"\0").decode()
            limit = next_limit(limit, sum(len(one.key) + len(one.value) for one in page))
        found.revision = revision
        # The recipes of locks and elections go by who came first.
        found.keys.sort(key=lambda one: (one.created, one.key))

    def _leases(self) -> list[Lease]:
        listed = self.ask("lease/leases").get("leases", ())
        return [lease for one in listed for lease in self._lease(int(one["ID"]))]

    def _lease(self, number: int) -> list[Lease]:
        answer = self.ask("lease/timetolive", ID=str(number))
        if int(answer.get("TTL", 0)) < 0:
            return []
        return [Lease(number, int(answer["grantedTTL"]), int(answer.get("TTL", 0)))]

    def _read_users(self, found: Contents) -> None:
        for user in self.ask("auth/user/list").get("users", ()):
            found.users[user] = self.ask("auth/user/get", name=user).get("roles", [])
        for role in self.ask("auth/role/list").get("roles", ()):
            rights = self.ask("auth/role/get", role=role).get("perm", ())
            found.roles[role] = [
                KeyPermission(
                    int(Access[one.get("permType", "READ")]),
                    b64decode(one.get("key", "")),
                    b64decode(one.get("range_end", "")),
                )
                for one in rights
                if role != "root"
            ]
