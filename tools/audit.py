"""Look the installed dependencies up in the database of known weaknesses (pip-audit, PyPI).

Exit code 1 if one has a weakness. Where the database cannot be reached that is said, and nothing
else: a machine without a way out cannot fail for it, and has not passed either.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COMMAND = ["-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
UNREACHABLE = ("ConnectionError", "ServiceError", "ConnectTimeout", "ProxyError", "HTTPError")


def main() -> int:
    done = subprocess.run(  # nosec B603 # ourselves, no shell
        [sys.executable, *COMMAND], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        return _not_done(done.stderr)
    weak = [one for one in found if one.get("vulns")]
    for one in weak:
        print(f"{one['name']} {one['version']}: {_names(one)}")
    known = sum("skip_reason" not in one for one in found)
    if not known:  # a mirror without the database says so of each package, and of the sum "none"
        print(f"not audited: the database knows none of {len(found)} packages; is it a mirror?")
        return 0
    print(f"{known} of {len(found)} packages looked up, {len(weak)} with known weaknesses")
    return 1 if weak else 0


def _names(one: dict[str, Any]) -> str:
    return ", ".join(f"{v['id']} (mended in {v['fix_versions'] or 'none'})" for v in one["vulns"])


def _not_done(errors: str) -> int:
    last = errors.strip().splitlines()[-1] if errors.strip() else "it said nothing"
    if any(name in errors for name in UNREACHABLE) or "connect" in errors.lower():
        print(f"not audited: the database of known weaknesses cannot be reached ({last[:200]})")
        return 0
    print(f"pip-audit failed: {last}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
