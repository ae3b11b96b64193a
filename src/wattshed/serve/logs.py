"""What the gateway writes to its log: lines for people, or one JSON object in each line.

What a line is about is in ``fields`` of a record (``extra=about(...)``). Keys, prompts and answers
are never logged.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from wattshed.serve.call import Call

log = logging.getLogger("wattshed.serve")
start_log = logging.getLogger("wattshed.serve.start")
"""What is told at the start, whatever the level."""
REQUEST = "a request has ended"


class JsonLines(logging.Formatter):
    """One JSON object, whatever is in it: line breaks are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and what it is about where its words do not say so."""
        text = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        if record.msg == REQUEST:
            found = getattr(record, "fields", {})
            text += "".join(f" {key}={value}" for key, value in found.items() if value is not None)
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def set_up_logs(kind: str, level: str) -> None:
    """Log to stderr.

    Parameters
    ----------
    kind : str
        ``text`` or ``json``.
    level : str
        Of `logging`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if kind == "json" else TextLines())
    logging.basicConfig(handlers=[handler])
    log.setLevel(level.upper())
    start_log.setLevel(logging.INFO)


def about(**fields: Any) -> dict[str, Any]:
    """What a line is about, as ``extra`` of a call to `logging`."""
    return {"fields": fields}


def log_request(call: Call) -> None:
    """A line for a request that has ended: an observer of the gateway."""
    used, receipt = call.used, call.receipt
    log.info(
        REQUEST,
        extra=about(
            request=call.id,
            endpoint=call.target.name if call.target else None,
            outcome=call.outcome,
            status=call.status,
            policy=call.choice.policy if call.choice else None,
            tenant=call.request.tenant or None,
            model=call.ask.model,
            input_tokens=used.input_tokens if used else None,
            output_tokens=used.output_tokens if used else None,
            joules=receipt.joules if receipt else None,
            method=receipt.method if receipt else None,
            first_s=call.since(call.first_s),
            end_s=call.since(call.end_s),
            kept=call.kept if call.outcome == "served" else None,
            tried=call.tried or None,
        ),
    )


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return at.replace("+00:00", "Z")
