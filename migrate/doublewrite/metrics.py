"""What the library and the delivery count, for a Prometheus that the application or the command exposes."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CAPTURED = Counter("migrate_doublewrite_captured_total", "Changed rows put into the outbox", ["server"])
DELIVERED = Counter("migrate_doublewrite_delivered_total", "Changes applied to the secondary at once")
LATE = Counter("migrate_doublewrite_late_total", "Changes that missed their deadline and stay in the outbox")
DELIVERY_SECONDS = Histogram(
    "migrate_doublewrite_delivery_seconds", "From COMMIT on the primary to COMMIT on the secondary",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 30),
)  # fmt: skip
FENCED = Counter("migrate_doublewrite_fenced_total", "Transactions that the epoch refused", ["server"])
COMPARED = Counter("migrate_doublewrite_reads_compared_total", "Reads that went to both sides")
MISMATCHED = Counter("migrate_doublewrite_reads_mismatched_total", "Reads that differed on both sides")
PENDING = Gauge("migrate_doublewrite_pending", "Changes in the outbox", ["source"])
LAG = Gauge("migrate_doublewrite_lag_seconds", "Age of the oldest change in the outbox", ["source"])
PUMPED = Counter("migrate_doublewrite_pumped_total", "Changes that drain or reverse applied", ["source"])
HELD = Counter("migrate_doublewrite_held_total", "Changes held back because the other side differs", ["source"])
