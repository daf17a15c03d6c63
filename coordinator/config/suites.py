"""Cipher suites by the names that Go, and so etcd, has for them."""

from __future__ import annotations

import difflib
from typing import Final

SUITES: Final[dict[str, str]] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
"""Go's name → OpenSSL's, of TLS 1.2. What has RC4 and 3DES in it is broken, and absent."""

ALWAYS: Final = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
"""The suites of TLS 1.3: all are good, and there is no choosing."""


def problems(suites: tuple[str, ...]) -> list[str]:
    """List everything that is wrong with a value of ``--cipher-suites``."""
    known = (*SUITES, *ALWAYS)
    found = []
    for suite in suites:
        if suite not in known:
            near = difflib.get_close_matches(suite, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            found.append(
                f"--cipher-suites {suite}: no such suite; {hint}Known are {', '.join(known)}"
            )
    if suites and not found and not any(suite in SUITES for suite in suites):
        found.append(
            f"--cipher-suites {','.join(suites)}: TLS 1.2 would have no suite; add one of its own, "
            "or set --tls-min-version TLS1.3"
        )
    return found


def openssl_ciphers(suites: tuple[str, ...]) -> str:
    """Write suites as OpenSSL wants them."""
    return ":".join(dict.fromkeys(SUITES[suite] for suite in suites if suite in SUITES))
