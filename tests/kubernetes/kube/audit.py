# SPDX-License-Identifier: GPL-2.0-only
"""
The API server's audit log as rows: who asked for what. It proves least privilege, and that nothing is asked again and
again.
"""

import json
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

# A watch is written down twice: when it starts (it may run for hours), and when it is over.
STARTED, COMPLETE = "ResponseStarted", "ResponseComplete"


@dataclass(frozen=True)
class Row:
    """One answered request; a field that it has not is "" or 0."""
    user: str
    verb: str  # get, list, watch, create, update, patch, delete, deletecollection
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    label_selector: str
    field_selector: str
    query: dict  # the whole of it: {"limit": "500", ...}
    stage: str
    code: int
    reason: str  # of the status, if it failed
    user_agent: str
    object: dict  # what was sent, if the audit level keeps it

    __hash__ = None

    def __str__(self):
        where = "/".join(part for part in (self.namespace, self.name) if part)
        what = "/".join(part for part in (self.resource, self.subresource) if part)
        query = " ".join(f"{key}={value}" for key, value in self.query.items())
        return " ".join(part for part in (self.user, self.verb, what, where, query, str(self.code)) if part)


class AuditLog:
    def __init__(self, path):
        self._path = path

    def mark(self):
        """The place where the log ends now, for rows(since=...)."""
        return self._path.stat().st_size

    def rows(self, since=0, user=None, **wanted):
        """
        The rows after a mark whose fields are as wanted: rows(user="system:serviceaccount:postern:postern-agent",
        verb="list", resource="pods"). A watch is one row, of its start; give stage=COMPLETE for its end.
        """
        stage = wanted.pop("stage", None)
        found = []
        with open(self._path, "rb") as log:
            log.seek(since)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # it is being written
                row = _row(json.loads(line))
                if row is None or (user is not None and row.user != user):
                    continue
                if row.stage != (stage or (STARTED if row.verb == "watch" and row.code < 400 else COMPLETE)):
                    continue
                if all(getattr(row, field) == value for field, value in wanted.items()):
                    found.append(row)
        return found

    def used(self, user, since=0):
        """{(verb, group, resource or resource/subresource)}: what of its rights somebody made use of."""
        return {(row.verb, row.group, "/".join(filter(None, (row.resource, row.subresource))))
                for row in self.rows(since, user) if row.resource and row.code != 403}

    def refused(self, user=None, since=0):
        """Every request that RBAC refused."""
        return [row for row in self.rows(since, user) if row.code == 403]


def _row(event):
    target = event.get("objectRef") or {}
    query = {key: values[-1] for key, values in parse_qs(urlsplit(event["requestURI"]).query).items()}
    status = event.get("responseStatus") or {}
    impersonated = event.get("impersonatedUser") or {}
    return Row(
        user=impersonated.get("username") or event["user"].get("username", ""), verb=event["verb"],
        group=target.get("apiGroup", ""), resource=target.get("resource", ""),
        subresource=target.get("subresource", ""), namespace=target.get("namespace", ""), name=target.get("name", ""),
        label_selector=query.get("labelSelector", ""), field_selector=query.get("fieldSelector", ""), query=query,
        stage=event["stage"], code=status.get("code", 0), reason=status.get("reason", ""),
        user_agent=event.get("userAgent", ""), object=event.get("requestObject") or {})
