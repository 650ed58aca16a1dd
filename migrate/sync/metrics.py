"""What a running sync tells Prometheus: read from the followers' own words whenever it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from migrate.config import Config
from migrate.errors import ConfigError
from migrate.sync.status import SyncStatus

_COUNTERS = {
    "changes": "Row changes applied in this run.",
    "transactions": "Transactions of the source applied in this run.",
    "batches": "Transactions of the target committed in this run.",
    "retries": "Batches that were sent again after trouble with the target.",
    "reconnects": "Times that the source went away and was waited for.",
    "doubts": "Target tables that were held in this run.",
}


class SyncCollector(Collector):
    """The last status as metrics. `status` is set by whoever watches the followers."""

    def __init__(self) -> None:
        self.status = SyncStatus((), ())

    def collect(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily("migrate_sync_lag_seconds", "How far the target is behind.", labels=["instance"])
        size = GaugeMetricFamily("migrate_sync_lag_bytes", "Binlog that is not applied yet.", labels=["instance"])
        running = GaugeMetricFamily("migrate_sync_running", "1 if the follower gives signs of life.",
                                    labels=["instance"])  # fmt: skip
        held = GaugeMetricFamily("migrate_sync_held", "1 for a target table that waits for the operator.",
                                 labels=["instance", "target"])  # fmt: skip
        counters = {
            name: CounterMetricFamily(f"migrate_sync_{name}", text, labels=["instance"])
            for name, text in _COUNTERS.items()
        }
        for follower in self.status.followers:
            label = [follower.instance]
            running.add_metric(label, float(follower.running))
            if follower.lag_s is not None:
                lag.add_metric(label, follower.lag_s)
            if follower.told["lag_bytes"] is not None:
                size.add_metric(label, follower.told["lag_bytes"])
            for name, family in counters.items():
                family.add_metric(label, follower.told[name])
        for hold in self.status.holds:
            held.add_metric([hold.instance, hold.target], 1.0)
        yield from (lag, size, running, held, *counters.values())


@contextmanager
def metrics_server(config: Config, address: str | None) -> Iterator[SyncCollector]:
    """Serves the metrics at http://ADDRESS/metrics as long as the block runs; nothing if no address is given.

    ConfigError if nobody can listen there.
    """
    collector = SyncCollector()
    if address is None:
        yield collector
        return
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(int(port), host or "127.0.0.1", registry)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--metrics {address}: can't listen there: {error}") from None
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
