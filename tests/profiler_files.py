"""Files as SageMaker's profiler saves them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta


def system_file(begin: datetime, gpu: float, cpu: float = 50.0) -> tuple[str, str]:
    """Key and content of one minute: a value of a GPU and of a core every half second."""
    lines = [
        {
            "Type": kind,
            "Name": f"{kind}0",
            "Dimension": f"{kind.upper()}Utilization",
            "Value": value,
            "NodeId": "algo-1",
            "Timestamp": begin.timestamp() + half / 2,
        }
        for half in range(120)
        for kind, value in (("gpu", gpu), ("cpu", cpu))
    ]
    end = begin + timedelta(minutes=1)
    key = f"system/incremental/{begin:%Y%m%d%H}/{end.timestamp():.0f}.algo-1.json"
    return key, "".join(json.dumps(line) + "\n" for line in lines)
