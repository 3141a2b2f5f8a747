"""The operator, telling every request that it makes on stderr. Watches are streams, and no requests of this kind."""

import re
import sys
from typing import Any

from qwensft_operator.__main__ import main
from qwensft_operator.runtime.kube import Kube

_PLURAL = re.compile(r"/namespaces/[^/]+/([^/]+)")
_request = Kube._request


async def _told(self: Kube, method: str, path: str, **more: Any) -> dict[str, Any]:
    found = _PLURAL.search(path)
    sys.stderr.write(f"request {method} {found[1] if found else path}\n")
    return await _request(self, method, path, **more)


if __name__ == "__main__":
    Kube._request = _told  # type: ignore[method-assign]
    sys.exit(main())
