"""A copy on the workers of a Dask cluster: the same executor interface, other machines."""

from __future__ import annotations

from dataclasses import replace

import distributed
import pytest

from migrate.config import Run
from migrate.copy.copier import copy
from migrate.db import connect
from migrate.sandbox import Sandbox
from migrate.schema import create_schema
from migrate.source import read_routing
from tests.integration.shards import config_for, database, route, run


@pytest.mark.soak
def test_workers_of_a_cluster_copy(servers: Sandbox) -> None:
    one, two = servers.sources
    with database(one, two, servers.target, prefix="dask") as schema:
        for number, server in enumerate((one, two)):
            values = ", ".join(f"({2 * i + number}, 'entry {i}')" for i in range(1000))
            run(
                server,
                f"CREATE TABLE {schema}.entry_{number} (id INT PRIMARY KEY, text VARCHAR(20) NOT NULL)",
                f"INSERT INTO {schema}.entry_{number} VALUES {values}",
            )
        config = config_for([one, two], servers.target, schema, route(schema, r"entry_\d+", f"{schema}.entry"))
        with connect(config.target) as session:
            create_schema(session, read_routing(config).checked(), execute=True)
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None
        ) as cluster:
            clustered = replace(config, run=Run(dask=cluster.scheduler_address, chunk_rows=100, patience_s=5))
            assert copy(clustered, 4).rows == 2000
        assert run(servers.target, f"SELECT COUNT(*), SUM(id) FROM {schema}.entry") == [(2000, 1999000)]
