"""What came of a step, in a line, from its command's document."""

from __future__ import annotations

import json
from typing import Any

from migrate.rehearse.tools import Answer


def seeded(document: dict[str, Any]) -> str:
    return f"{sum(document['rows'].values()):,} rows in {document['shards']} shard sets"


def checked(document: dict[str, Any]) -> str:
    wrong = [c for c in document["checks"] if c["status"] == "failed"]
    return "; ".join(c["message"] for c in wrong) or f"{len(document['checks'])} checks"


def planned(document: dict[str, Any]) -> str:
    shards = sum(len(t["shards"]) for t in document["tables"])
    problems = "; ".join(document["problems"])
    return problems or f"{shards} shards into {len(document['tables'])} tables, {document['chunks']} chunks"


def installed(document: dict[str, Any]) -> str:
    return f"migrate_outbox on {len(document['servers'])} servers; the application posts through the library from here"


def copied(document: dict[str, Any]) -> str:
    rate = document["rows"] / max(document["seconds"], 0.001)
    return f"{document['rows']:,} rows, {rate:,.0f} rows/s, while they were written"


def verified(document: dict[str, Any]) -> str:
    rows = sum(t["source_rows"] for t in document["tables"])
    if document["ok"]:
        rules = document.get("invariants") or ()
        return f"{rows:,} rows the same on both sides, {len(rules)} rules of the ledger hold"
    named = [f"{m['target']} {json.dumps(m['key'])} {m['kind']}" for m in document["mismatches"][:3]]
    broken = [i["name"] for i in document.get("invariants") or () if not i["ok"]]
    return f"the two sides differ: {'; '.join([*named, *broken]) or 'see the evidence'}"


def switched(answer: Answer) -> str:
    document = answer.document
    if not document:
        return answer.error()
    frozen = "" if document.get("freeze_s") is None else f"writes were refused for {document['freeze_s']:.2f} s; "
    return f"{frozen}{document['reason']}"
