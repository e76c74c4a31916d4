"""What is known of where a set's pictures are from: from the catalogue, the query and people's decisions to a Statement."""

from __future__ import annotations

from typing import Any

from .build import build
from .wiring import Config


def certificate(config: Config, chosen: Any) -> Any:
    """The Statement about what a Selection took, counted over its rows; nothing is asked of it yet.

    Raises:
        ConfigError: a requirement is unknown or impossible.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as pads

    from ..catalogue.post import ORIGINS, SCHEMA
    from ..curate.statement import COLUMNS, Requirements, statement

    require = build(Requirements, config["curate"].get("require"), where="curate.require")
    table = pads.dataset(chosen.folder / "catalogue.parquet", schema=SCHEMA).to_table(columns=list(COLUMNS))
    rows = pa.array(chosen.rows)
    names = pa.array(np.array(ORIGINS)[chosen.origins])  # as people and signs say
    at = table.schema.get_field_index("origin")
    people = chosen.decided.filter(pc.equal(chosen.decided["review"], "keep"))
    return statement(
        table.set_column(at, "origin", names).filter(rows),
        set(people["uid"].to_pylist()),
        require=require,
        selection=chosen.recorded(),
    )
